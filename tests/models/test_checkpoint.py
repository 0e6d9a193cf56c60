"""What is read of a checkpoint: headers of safetensors files, and how many weights packed tensors stand for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from quantexp.config import ModelConfig, QuantConfig
from quantexp.models import ModelFile, prepare, resolve
from quantexp.models.safetensors import BITS, Tensor, read_header
from quantexp.util.errors import UserError

Arrays = dict[str, "np.ndarray[Any, Any]"]

FP16 = {"norm.weight": np.zeros(7, np.float16), "bias": np.zeros((), np.float16)}


def checkpoint(folder: Path, tensors: Arrays, config: dict[str, Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": config or {}}))
    return folder


def measured(folder: Path, cache: Path, quant: QuantConfig) -> tuple[int, float]:
    model = ModelConfig("m", "server", checkpoint=str(folder), cache=str(cache))
    file, source = resolve(model, quant)
    assert file == source
    return file.parameters, file.bits_per_weight


def refused(model: ModelConfig, quant: QuantConfig) -> str:
    with pytest.raises(UserError) as caught:
        resolve(model, quant)
    return str(caught.value)


# The header


def test_what_the_formats_own_library_writes_is_read_back(tmp_path: Path) -> None:
    types = {
        "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
        "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
    }  # fmt: skip
    arrays: Arrays = {name: np.zeros((2, number, 3), kind) for number, (name, kind) in enumerate(types.items())}
    save_file(arrays, tmp_path / "all.safetensors", metadata={"format": "np"})
    assert read_header(tmp_path / "all.safetensors") == {
        name: Tensor(name, array.shape) for name, array in arrays.items()
    }


def written(path: Path, header: Any, data: int) -> Path:
    content = json.dumps(header).encode() if not isinstance(header, bytes) else header
    path.write_bytes(len(content).to_bytes(8, "little") + content + bytes(data))
    return path


def entry(dtype: Any = "I8", shape: Any = (4,), place: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": place}


@pytest.mark.parametrize(
    ("header", "data", "why"),
    [
        (b"{", 0, "its first eight bytes are not the length of a header"),
        (b"{]", 0, "its header is not JSON"),
        (b"[" * 100_000, 0, "its header is not JSON"),
        (b'{"a": 1, "a": 2}', 0, "its header is not JSON (a name occurs twice)"),
        ([], 0, "its header is not a JSON object"),
        ({"a": 1}, 0, "its tensor a has no place"),
        ({"a": entry(dtype="Q4")}, 4, "its tensor a has a type that is unknown"),
        ({"a": entry(shape=[-4])}, 4, "its tensor a has no shape"),
        ({"a": entry(shape=[4.0])}, 4, "its tensor a has no shape"),
        ({"a": entry(shape=[True])}, 4, "its tensor a has no shape"),
        ({"a": entry(place=[0])}, 4, "its tensor a has no place"),
        ({"a": entry(place=[4, 0])}, 4, "its tensor a is not where, or not as large as, the header says"),
        ({"a": entry(shape=[5])}, 4, "its tensor a is not where, or not as large as, the header says"),
        ({"a": entry(shape=[2**40, 2**40])}, 4, "its tensor a is not where, or not as large as, the header says"),
        ({"a": entry(), "b": entry()}, 4, "its tensor b is not where, or not as large as, the header says"),
        ({"a": entry()}, 3, "its header speaks of 4 bytes of tensors and there are 3"),
        ({"a": entry()}, 5, "its header speaks of 4 bytes of tensors and there are 5"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_whole_is_refused(tmp_path: Path, header: Any, data: int, why: str) -> None:
    with pytest.raises(ValueError, match=r"^its ") as caught:
        read_header(written(tmp_path / "x", header, data))
    assert str(caught.value).startswith(why)


@pytest.mark.parametrize("length", [0, 1, 2**62, 2**64 - 1])
def test_a_length_that_no_header_has_is_refused_unread(tmp_path: Path, length: int) -> None:
    (tmp_path / "x").write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="not the length of a header"):
        read_header(tmp_path / "x")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*BITS, "Q4"]) | ANYTHING,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | ANYTHING,
        "data_offsets": st.lists(st.integers(-1, 40), min_size=2, max_size=2) | ANYTHING,
    }
)


@given(
    content=st.binary(max_size=80)
    | st.dictionaries(st.text(max_size=3), ENTRIES | ANYTHING, max_size=3).map(
        lambda header: json.dumps(header).encode()
    )
    | ANYTHING.map(lambda header: json.dumps(header).encode()),
    data=st.integers(0, 60),
    lie=st.sampled_from([0, 0, 0, 1, -1, 1000]),
)
def test_whatever_is_in_a_file_is_read_whole_or_refused(
    content: bytes, data: int, lie: int, tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.write_bytes(max(0, len(content) + lie).to_bytes(8, "little") + content + bytes(data))
    try:
        tensors = read_header(path)
    except ValueError:
        return
    assert sum(-(-tensor.bits // 8) for tensor in tensors.values()) == path.stat().st_size - 8 - len(content) - lie


@given(cut=st.integers(0, 200), at=st.integers(0, 200), byte=st.integers(0, 255))
def test_a_damaged_file_of_the_real_library_is_read_whole_or_refused(
    cut: int, at: int, byte: int, tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    save_file({"a": np.zeros((3, 2), np.float32), "b": np.zeros(5, np.int8)}, path)
    content = bytearray(path.read_bytes())
    content[at % len(content)] = byte
    path.write_bytes(content[: len(content) - cut] if cut < len(content) else b"")
    try:
        tensors = read_header(path)
    except ValueError:
        return
    assert cut == 0
    assert sum(-(-tensor.bits // 8) for tensor in tensors.values()) == 3 * 2 * 4 + 5


# Weights

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 4)).map(lambda tiles: (32 * tiles[0], 32 * tiles[1]))


def packed(method: str, inputs: int, outputs: int, bits: int) -> Arrays:
    """One linear layer as the format has it; groups of 32 inputs."""
    groups = inputs // 32
    scales = np.zeros((groups, outputs), np.float16)
    match method:
        case "gptq":
            return {
                "l.qweight": np.zeros((inputs * bits // 32, outputs), np.int32),
                "l.qzeros": np.zeros((groups, outputs * bits // 32), np.int32),
                "l.scales": scales,
                "l.g_idx": np.zeros(inputs, np.int32),
            }
        case "awq":
            return {
                "l.qweight": np.zeros((inputs, outputs * bits // 32), np.int32),
                "l.qzeros": np.zeros((groups, outputs * bits // 32), np.int32),
                "l.scales": scales,
            }
        case "exl2":
            return {
                "l.q_weight": np.zeros((inputs * bits // 32, outputs), np.int32),
                "l.q_scale": np.zeros((groups, outputs // 8), np.int32),
                "l.q_scale_max": np.zeros(groups, np.float16),
                "l.q_groups": np.zeros(2 * groups, np.int16),
                "l.q_invperm": np.zeros(inputs, np.int16),
            }
        case "exl3":
            return {
                "l.trellis": np.zeros((inputs // 16, outputs // 16, 16 * bits), np.int16),
                "l.suh": np.zeros(inputs, np.float16),
                "l.svh": np.zeros(outputs, np.float16),
                "l.mcg": np.zeros((), np.int32),
            }
        case _:
            return {
                "l.weight_packed": np.zeros((outputs, inputs * bits // 32), np.int32),
                "l.weight_scale": np.zeros((outputs, groups), np.float16),
                "l.weight_shape": np.zeros(2, np.int64),
            }


@pytest.mark.parametrize("method", ["gptq", "awq", "exl2", "exl3", "compressed-tensors"])
@settings(max_examples=25)
@given(size=SIZES, bits=st.sampled_from([2, 3, 4, 8]))
def test_packed_weights_are_counted_whatever_their_shape(
    method: str, size: tuple[int, int], bits: int, tmp_path_factory: Any
) -> None:
    inputs, outputs = size
    base = tmp_path_factory.getbasetemp()
    layer = packed(method, inputs, outputs, bits)
    described: dict[str, Any] = {"quant_method": method, "config_groups": {"group_0": {"weights": {"num_bits": bits}}}}
    if method == "compressed-tensors" and bits == 3:
        bits, layer = 4, packed(method, inputs, outputs, 4)
        described["config_groups"]["group_0"]["weights"]["num_bits"] = 4
    folder = checkpoint(base / f"{method}-checkpoint", {**layer, **FP16}, described)
    quant = QuantConfig("q", method="awq" if method == "compressed-tensors" else method)
    weights, per_weight = measured(folder, base, quant)
    assert weights == inputs * outputs + 7 + 1
    assert per_weight == 8 * sum(array.nbytes for array in {**layer, **FP16}.values()) / weights


def test_a_layer_of_awq_has_the_bits_that_a_hand_calculation_gives(tmp_path: Path) -> None:
    """4-bit weights in groups of 32, with a 16-bit scale and a 4-bit zero each: 4 + 20/32."""
    folder = checkpoint(tmp_path / "c", packed("awq", 64, 64, 4), {"quant_method": "awq", "bits": 4})
    assert measured(folder, tmp_path, QuantConfig("awq", method="awq")) == (4096, 4.625)


def test_gptq_without_an_order_of_inputs_is_counted_by_the_bits_that_its_description_names(tmp_path: Path) -> None:
    layer = packed("gptq", 64, 32, 4)
    del layer["l.g_idx"]
    folder = checkpoint(tmp_path / "c", layer, {"quant_method": "gptq", "bits": 4})
    assert measured(folder, tmp_path, QuantConfig("gptq", method="gptq"))[0] == 64 * 32
    (folder / "config.json").write_text("{}")  # where GPTQ's own file has the description
    (folder / "quantize_config.json").write_text(json.dumps({"bits": 4}))
    assert measured(folder, tmp_path, QuantConfig("gptq", method="gptq"))[0] == 64 * 32
    (folder / "quantize_config.json").unlink()
    said = refused(ModelConfig("m", "server", checkpoint=str(folder)), QuantConfig("gptq", method="gptq"))
    assert said == (
        f"{folder} holds the tensor l.qweight (I32), of which quantexp cannot tell how many weights it stands for: "
        "leave out model.checkpoint and give quant.bits_per_weight=NUMBER."
    )


def test_eight_bit_floats_are_a_weight_each(tmp_path: Path) -> None:
    header = {
        "l.weight": entry("F8_E4M3", [4, 8], [0, 32]),
        "l.weight_scale_inv": entry("F32", [1], [32, 36]),
        "l.input_scale": entry("BF16", [], [36, 38]),
    }
    (tmp_path / "c").mkdir()
    written(tmp_path / "c" / "model.safetensors", header, 38)
    (tmp_path / "c" / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "fp8"}}))
    assert measured(tmp_path / "c", tmp_path, QuantConfig("fp8", method="fp8")) == (32, 38 * 8 / 32)


def test_a_model_in_several_files_is_all_of_them(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "c", {"a.weight": np.zeros((4, 4), np.float16)})
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    save_file({"b.weight": np.zeros((2, 2), np.float32)}, folder / "two.safetensors")
    save_file({"c.weight": np.zeros((9, 9), np.float32)}, folder / "consolidated.safetensors")  # the same once more
    index = {"weight_map": {"a.weight": "one.safetensors", "b.weight": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    model = ModelConfig("m", "server", checkpoint=str(folder), cache=str(tmp_path))
    file, _ = resolve(model, QuantConfig("F16", "MOSTLY_F16"))
    assert (file.parameters, file.bits_per_weight) == (20, (16 * 16 + 4 * 32) / 20)
    assert file.bytes == sum((folder / f"{name}.safetensors").stat().st_size for name in ("one", "two"))
    before = file.sha256
    save_file({"b.weight": np.ones((2, 2), np.float32)}, folder / "two.safetensors")
    assert resolve(model, QuantConfig("F16", "MOSTLY_F16"))[0].sha256 != before
    (folder / "two.safetensors").unlink()
    assert refused(model, QuantConfig("F16", "MOSTLY_F16")) == (
        f"{folder / 'two.safetensors'} is missing: model.safetensors.index.json names it; put all files of the model "
        "in one folder."
    )


@pytest.mark.parametrize(
    ("quant", "held"),
    [
        (QuantConfig("gptq", method="gptq"), "awq, not gptq"),
        (QuantConfig("Q4_K_M", "MOSTLY_Q4_K_M"), "awq, not Q4_K_M"),
    ],
)
def test_a_wrong_label_is_refused(tmp_path: Path, quant: QuantConfig, held: str) -> None:
    folder = checkpoint(tmp_path / "c", packed("awq", 32, 32, 4), {"quant_method": "awq"})
    said = refused(ModelConfig("m", "server", checkpoint=str(folder)), quant)
    assert said == f"{folder} holds {held}; choose the quant that it holds, or another folder."


def test_weights_that_are_not_quantized_are_refused_under_a_quants_name(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "c", {"a.weight": np.zeros((4, 4), np.float16)})
    model = ModelConfig("m", "server", checkpoint=str(folder), cache=str(tmp_path))
    assert "holds weights that are not quantized (F16), not awq;" in refused(model, QuantConfig("awq", method="awq"))
    assert "holds F16, not BF16;" in refused(model, QuantConfig("BF16", "MOSTLY_BF16"))
    assert resolve(model, QuantConfig("F16", "MOSTLY_F16"))[0].bits_per_weight == 16


def test_without_a_checkpoint_bits_per_weight_must_be_given() -> None:
    model = ModelConfig("m", "server")
    sentence = (
        "The bits per weight of awq are not known: let them be measured with model.checkpoint=FOLDER, the "
        "folder of the safetensors that the server loads, or give them with quant.bits_per_weight=NUMBER."
    )
    assert refused(model, QuantConfig("awq", method="awq")) == sentence
    with pytest.raises(UserError, match="The bits per weight"):  # before the first job runs
        prepare([(model, QuantConfig("awq", method="awq"))])
    file, _ = resolve(model, QuantConfig("awq", method="awq", bits_per_weight=4.25))
    assert (file.bits_per_weight, file.bytes, file.parameters) == (4.25, 0, 0)
    assert file.sha256 == "not known: awq of m"


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    quant = QuantConfig("awq", method="awq")
    nowhere = ModelConfig("m", "server", checkpoint=str(tmp_path / "no"))
    assert refused(nowhere, quant).startswith(f"model.checkpoint={tmp_path / 'no'} is not a folder;")
    empty = ModelConfig("m", "server", checkpoint=str(tmp_path))
    assert refused(empty, quant) == f"model.checkpoint={tmp_path} holds no safetensors, and not one GGUF."
    (tmp_path / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert refused(empty, quant).startswith(
        f"{tmp_path / 'model.safetensors'} is not a complete safetensors file: its "
    )


def test_a_gguf_that_a_server_loads_is_measured_as_one_that_is_loaded_here(tmp_path: Path, q8_0: ModelFile) -> None:
    (tmp_path / "m-Q8_0").mkdir()
    (tmp_path / "m-Q8_0" / "m.gguf").symlink_to(q8_0.path)
    for path in (q8_0.path, str(tmp_path / "m-Q8_0")):
        model = ModelConfig("m", "server", checkpoint=path, cache=str(tmp_path))
        prepare([(model, QuantConfig("Q8_0", "MOSTLY_Q8_0"))])
        file, _ = resolve(model, QuantConfig("Q8_0", "MOSTLY_Q8_0"))
        assert (file.sha256, file.bits_per_weight) == (q8_0.sha256, q8_0.bits_per_weight)
        assert "holds Q8_0, not Q4_K_M" in refused(model, QuantConfig("Q4_K_M", "MOSTLY_Q4_K_M"))
