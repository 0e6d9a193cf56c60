"""Recipes of quants that are made here: every type that llama.cpp makes, importance matrices, types of tensors."""

import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from tests.support.gguf_files import NUMBERS, open_gguf, write_whole_gguf
from tests.support.variants import mark_slow

from quantexp import models
from quantexp.config import EngineConfig, ModelConfig, QuantConfig
from quantexp.engines import Decoding, Prompt
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.models import ModelFile
from quantexp.models.importance_matrix import read_importance_matrix
from quantexp.util.errors import UserError
from quantexp.util.native.file_types import list_quants

LADDER = ("Q3_K_M", "Q4_0", "IQ4_XS", "IQ3_S", "Q4_K_S", "Q5_0", "TQ1_0", "MXFP4", "BF16")
WIDTH = 256
"""Of rows that every type divides into blocks."""

NEED_A_MATRIX = {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S"}
NEVER_MADE = {"NVFP4"}


def quant_of(name: str) -> QuantConfig:
    return QuantConfig(name, list_quants()[name])


def types_of(file: ModelFile) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in open_gguf(file.path).tensors}


@pytest.fixture
def wide(tmp_path: Path) -> Iterator[ModelConfig]:
    """A model of one layer in 32 bits, with rows of 256."""
    folder = tmp_path / "large"
    folder.mkdir()
    path = write_whole_gguf(folder / "wide.gguf", width=WIDTH)
    yield ModelConfig("wide", "path", path=str(path), quantize=True, cache=str(folder / "cache"))
    shutil.rmtree(folder)


def matrix_of(model: ModelConfig, *, experts: int = 1) -> dict[str, np.ndarray]:
    """Sums of squares for each tensor that is multiplied by something."""
    generator = np.random.default_rng(1)
    return {
        tensor.name: generator.uniform(1, 100, (experts, int(tensor.shape[0]))).astype(np.float32)
        for tensor in open_gguf(str(model.path)).tensors
        if tensor.name.startswith("blk.") and "norm" not in tensor.name
    }


def write_matrix(path: Path, sums: Mapping[str, np.ndarray], count: float = 4) -> Path:
    writer = gguf.GGUFWriter(path, "none")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["calibration.txt", "and another"])
    writer.add_array("imatrix.numbers", [1, 2, 3])
    writer.add_uint32("imatrix.chunk_count", 1)
    for name, values in sums.items():
        writer.add_tensor(f"{name}.in_sum2", values)
        writer.add_tensor(f"{name}.counts", np.full((len(values), 1), count, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_older_matrix(path: Path, sums: Mapping[str, np.ndarray], calls: int = 4) -> Path:
    entries = [
        struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", calls, values.size) + values.tobytes()
        for name, values in sums.items()
    ]
    path.write_bytes(struct.pack("<i", len(entries)) + b"".join(entries) + struct.pack("<i", 1))
    return path


SOME = ("IQ1_S", "IQ4_XS", "NVFP4", "Q2_K_S", "Q4_K_M", "TQ1_0")
"""Types of each kind: made, never made, and made with a matrix only."""


@pytest.mark.parametrize("names", mark_slow([SOME, (tuple(list_quants()),)], after=1), ids=len)
def test_every_type_is_made_or_refused_before_the_work_begins(wide: ModelConfig, names: tuple[str, ...]) -> None:
    for name in names:
        if name in NEED_A_MATRIX | NEVER_MADE:
            words = (
                "only with an importance matrix: add model\\.imatrix=auto"
                if name in NEED_A_MATRIX
                else "cannot make NVFP4 of"
            )
            with pytest.raises(UserError, match=words):
                models.prepare([(wide, quant_of(name))])
            with pytest.raises(UserError, match=words):
                models.resolve(wide, quant_of(name))
        else:
            models.prepare([(wide, quant_of(name))])
            assert models.resolve(wide, quant_of(name))[0].file_type == list_quants()[name]
    made = [path.stem for path in Path(str(wide.cache)).rglob("*.gguf")]
    assert not {f"MOSTLY_{name}" for name in NEED_A_MATRIX | NEVER_MADE} & set(made)


@pytest.mark.slow  # llama.cpp takes half a minute to begin with the grids of IQ1 and IQ2
@pytest.mark.parametrize("name", sorted(NEED_A_MATRIX - {"Q2_K_S"}))
def test_a_matrix_makes_what_needs_one(wide: ModelConfig, tmp_path: Path, name: str) -> None:
    with_matrix = replace(wide, imatrix=str(write_matrix(tmp_path / "matrix", matrix_of(wide))))
    models.prepare([(with_matrix, quant_of(name))])
    assert models.resolve(with_matrix, quant_of(name))[0].file_type == list_quants()[name]


@pytest.mark.parametrize("write", mark_slow([write_matrix, write_older_matrix], after=1))
def test_a_matrix_makes_other_files(
    wide: ModelConfig, tmp_path: Path, write: Callable[[Path, Mapping[str, np.ndarray]], Path]
) -> None:
    with_matrix = replace(wide, imatrix=str(write(tmp_path / "matrix", matrix_of(wide))))
    models.prepare([(with_matrix, quant_of("Q2_K_S"))])
    assert models.resolve(with_matrix, quant_of("Q2_K_S"))[0].file_type == "MOSTLY_Q2_K_S"
    plain, weighed = (models.resolve(each, quant_of("Q4_K_M"))[0] for each in (wide, with_matrix))
    assert plain.sha256 != weighed.sha256
    assert types_of(plain) == types_of(weighed)
    # What no matrix changes is the same file, whether it is made again or not.
    for name in ("Q8_0", "BF16", "F32"):
        first, second = (models.resolve(each, quant_of(name))[0] for each in (wide, with_matrix))
        assert first.sha256 == second.sha256


def test_both_formats_hold_the_same_weights(wide: ModelConfig, tmp_path: Path) -> None:
    sums = matrix_of(wide)
    newer = read_importance_matrix(write_matrix(tmp_path / "new.gguf", sums))
    older = read_importance_matrix(write_older_matrix(tmp_path / "old.dat", sums))
    assert newer.keys() == older.keys() == sums.keys()
    for name, values in sums.items():
        np.testing.assert_allclose(newer[name], values.ravel() / 4, rtol=1e-6)
        np.testing.assert_array_equal(newer[name], older[name])
    unused = read_importance_matrix(write_matrix(tmp_path / "none.gguf", matrix_of(wide, experts=3), count=0))
    assert all((values == 1).all() and values.size % 3 == 0 for values in unused.values())


def test_what_is_no_matrix_is_refused(wide: ModelConfig, tmp_path: Path) -> None:
    whole = write_matrix(tmp_path / "whole.gguf", matrix_of(wide)).read_bytes()
    older = write_older_matrix(tmp_path / "old.dat", matrix_of(wide)).read_bytes()
    path = tmp_path / "matrix"
    cuts = [*range(0, 600, 7), len(whole) - 64]
    contents = [whole[:cut] for cut in cuts] + [older[: len(older) // 2], b"text, not numbers", b"\0" * 40]
    spoilt = {name: values * np.nan for name, values in matrix_of(wide).items()}
    contents += [Path(str(wide.path)).read_bytes(), write_matrix(tmp_path / "nan", spoilt).read_bytes()]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"model\.imatrix=.*matrix .*llama-imatrix"):
            read_importance_matrix(path)
    with pytest.raises(UserError, match=r"model\.imatrix=nowhere is not a file"):
        models.prepare([(replace(wide, imatrix="nowhere"), quant_of("Q4_K_M"))])


def test_types_of_tensors_are_as_told(wide: ModelConfig) -> None:
    told = replace(
        wide, output_type="q8_0", embedding_type="F16", tensor_types={"ffn_down": "Q6_K", "attn_[qk]": "bf16"}
    )
    made = models.resolve(told, quant_of("Q4_0"))[0]
    types = types_of(made)
    assert (types["output.weight"], types["token_embd.weight"]) == ("Q8_0", "F16")
    assert (types["blk.0.ffn_down.weight"], types["blk.0.attn_q.weight"]) == ("Q6_K", "BF16")
    assert (types["blk.0.attn_k.weight"], types["blk.0.ffn_up.weight"]) == ("BF16", "Q4_0")
    assert made.file_type == "MOSTLY_Q4_0"


def test_each_recipe_has_a_file_of_its_own(wide: ModelConfig, tmp_path: Path) -> None:
    sums = matrix_of(wide)
    matrices = [
        write_matrix(tmp_path / name, {**sums, "x": np.ones((1, each), np.float32)})
        for each, name in enumerate("ab", 1)
    ]
    recipes = [
        wide,
        *(replace(wide, imatrix=str(matrix)) for matrix in matrices),
        replace(wide, output_type="Q8_0"),
        replace(wide, embedding_type="Q8_0"),
        replace(wide, tensor_types={"ffn": "Q8_0", "down": "Q6_K"}),
        replace(wide, tensor_types={"down": "Q6_K", "ffn": "Q8_0"}),
    ]
    files = [models.resolve(recipe, quant_of("Q4_K_M")) for recipe in recipes]
    assert len({made.path for made, _ in files}) == len({source.path for _, source in files}) + len(recipes) - 1
    names = [models.describe_source(recipe, quant_of("Q4_K_M"), files[0][1]) for recipe in recipes]
    assert len(set(names)) == len(recipes)
    assert names[0] == files[0][1].sha256
    same = write_matrix(tmp_path / "elsewhere", {**sums, "x": np.ones((1, 1), np.float32)})
    assert models.resolve(replace(wide, imatrix=str(same)), quant_of("Q4_K_M")) == files[1]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"output_type": "Q9"}, r"model\.output_type=Q9 is no type of tensor .*; choose one of BF16, .*Q8_0, .*\.$"),
        ({"output_type": "Q8_K"}, r"model\.output_type=Q8_K is no type of tensor"),
        ({"embedding_type": "I32"}, r"model\.embedding_type=I32 is no type of tensor"),
        ({"tensor_types": {"ffn": "x"}}, r"model\.tensor_types\.ffn=X is no type of tensor"),
        ({"embedding_type": "IQ2_XXS"}, r"needs an importance matrix with an entry for token_embd\.weight"),
        ({"tensor_types": {"out": "IQ1_S"}}, r"needs an importance matrix with an entry for output\.weight"),
        ({"tensor_types": {"ffn": "IQ2_S"}}, r"makes Q4_0 of wide\.gguf only with an importance matrix"),
        ({"tensor_types": {"(?<=f)fn": "Q8_0"}}, r"cannot make Q4_0 of wide\.gguf: Invalid .* regular expression\.$"),
    ],
)
def test_what_cannot_be_made_is_refused(wide: ModelConfig, told: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        models.prepare([(replace(wide, **told), quant_of("Q4_0"))])  # type: ignore[arg-type]


def test_rows_that_do_not_divide_into_the_blocks_are_refused(tmp_path: Path) -> None:
    path = write_whole_gguf(tmp_path / "narrow.gguf")
    narrow = ModelConfig("n", "path", path=str(path), quantize=True, cache=str(tmp_path), embedding_type="Q4_K")
    words = rf"rows of a multiple of 256 numbers, and those of narrow\.gguf have {NUMBERS['embedding_length']}: choose"
    with pytest.raises(UserError, match=words):
        models.resolve(narrow, quant_of("Q4_0"))
    assert models.resolve(replace(narrow, embedding_type="Q5_0"), quant_of("Q4_0"))[0].file_type == "MOSTLY_Q4_0"


def test_a_matrix_of_another_model_is_refused(wide: ModelConfig, tmp_path: Path) -> None:
    other = {name: values[:, :-32] for name, values in matrix_of(wide).items()}
    config = replace(wide, imatrix=str(write_matrix(tmp_path / "other.gguf", other)))
    with pytest.raises(UserError, match=r"cannot make Q2_K_S with model\.imatrix=.*other\.gguf: .*size"):
        models.resolve(config, quant_of("Q2_K_S"))


@pytest.mark.parametrize("name", [LADDER[0], *(pytest.param(each, marks=pytest.mark.slow) for each in LADDER[1:])])
def test_a_ladder_of_the_embedded_model_computes(demo: ModelConfig, name: str) -> None:
    file, _ = models.resolve(demo, quant_of(name))
    assert file.file_type == list_quants()[name]
    engine = LlamaCpp(file, demo, EngineConfig("llama_cpp", context=256, threads=1, lanes=1))
    try:
        tokens = engine.tokenize("The capital of France is")
        ((_, completion),) = engine.complete([Prompt("a", "", tokens, 0)], Decoding(4))
    finally:
        engine.close()
    assert 1 <= len(completion.tokens) <= 4
