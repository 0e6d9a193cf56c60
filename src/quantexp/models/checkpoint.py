"""A model that a server has: what its checkpoint's safetensors headers say of it, or what is given where there is none.

A quantized tensor stands for more weights than it has elements, and has others beside it (scales, zero points) that
are part of its cost and no weights. Bits per weight are the bits of everything in the files over the weights that they
stand for, embeddings and norms included, as they are for a GGUF.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantexp.config import ModelConfig, QuantConfig
from quantexp.models.gguf import ModelFile, check_label, combine_digests, hashed, identify, list_parts
from quantexp.models.safetensors import BITS, Tensor, read_header
from quantexp.models.sources import cache_folder
from quantexp.util.errors import UserError

PACKED = frozenset({"qweight", "weight_packed", "q_weight", "trellis"})
"""Last part of the names of tensors that hold several weights an element: AutoGPTQ and AutoAWQ; compressed-tensors;
EXL2; EXL3."""

BESIDE = frozenset(
    {
        *("qzeros", "scales", "g_idx"),  # GPTQ, AWQ
        *("q_scale", "q_scale_max", "q_groups", "q_group_map", "q_perm", "q_invperm"),  # EXL2
        *("suh", "svh", "su", "sv", "mcg", "mul1"),  # EXL3
        *("weight_scale", "weight_scale_inv", "weight_scale_2", "weight_zero_point"),  # FP8, compressed-tensors
        *("weight_g_idx", "weight_shape", "weight_global_scale"),
        *("input_scale", "input_zero_point", "input_global_scale", "output_scale", "output_zero_point"),
        *("activation_scale", "k_scale", "v_scale", "kv_scale"),
    }
)
"""Last part of the names of what stands beside quantized weights."""

WHOLE = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})
"""Types of which an element is a weight; I8 is one too where a tensor is called weight."""

FLOAT_TYPES = {"F32": "ALL_F32", "F16": "MOSTLY_F16", "BF16": "MOSTLY_BF16"}
"""What llama.cpp calls a file of such weights, so that quant=F16 means the same everywhere."""

CONTAINER = "compressed-tensors"
"""A quant_method that says how weights are packed and not how they were found: AWQ, GPTQ and FP8 may all come so."""


def identify_served(model: ModelConfig, quant: QuantConfig) -> ModelFile:
    """Identify a model whose weights only its server loads.

    Raises:
        UserError: neither a checkpoint nor bits per weight are given, or the checkpoint cannot be read, or it holds
            another kind of quant.
    """
    if model.checkpoint is not None:
        path = Path(model.checkpoint).expanduser()
        if (gguf := _gguf(path)) is not None:
            return check_label(identify(gguf.resolve(), cache_folder(model)), quant)
        return _read(path, model, quant)
    if quant.bits_per_weight is None:
        raise UserError(
            f"The bits per weight of {quant.name} are not known: let them be measured with "
            "model.checkpoint=FOLDER, the folder of the safetensors that the server loads, or give them with "
            "quant.bits_per_weight=NUMBER."
        )
    return ModelFile(
        path="",
        sha256=f"not known: {quant.name} of {model.name}",
        bytes=0,
        parameters=0,
        bits_per_weight=quant.bits_per_weight,
        file_type=quant.name,
        architecture="not known",
        training_context=0,
    )


def check_checkpoint(model: ModelConfig, quant: QuantConfig) -> None:
    """Refuse what `identify_served` would, as far as it can be told without reading whole files."""
    if model.checkpoint is None:
        identify_served(model, quant)
    elif _gguf(path := Path(model.checkpoint).expanduser()) is None:
        _files(path, model)


def _read(folder: Path, model: ModelConfig, quant: QuantConfig) -> ModelFile:
    files = _files(folder, model)
    config = _json(folder / "config.json")
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors |= read_header(file)
        except ValueError as error:
            raise UserError(f"{file} is not a complete safetensors file: {error}; fetch it again.") from error
    if not tensors:
        raise UserError(f"{folder} holds no tensors; give model.checkpoint the folder that the server loads.")
    described = _quantization(folder, config)
    _check_label(folder, described, tensors, quant)
    weights = count_weights(tensors, described, folder)
    cache = cache_folder(model)
    measured = sum(tensor.bits for tensor in tensors.values()) / weights
    return ModelFile(
        path=str(folder.resolve()),
        sha256=combine_digests([hashed(file.resolve(), cache) for file in files]),
        bytes=sum(file.stat().st_size for file in files),
        parameters=weights,
        bits_per_weight=measured,
        file_type=str(described.get("quant_method") or _most(tensors)),
        architecture=str(config.get("model_type", "not known")),
        training_context=0,
    )


def _gguf(path: Path) -> Path | None:
    """Find the GGUF that the path is, or the only one in that folder, of several parts the first; else None."""
    if path.is_file() and path.suffix == ".gguf":
        return path
    if any(path.glob("*.safetensors")):
        return None
    models = {list_parts(file)[0] for file in path.glob("*.gguf")}
    return models.pop() if len(models) == 1 else None


def _files(folder: Path, model: ModelConfig) -> list[Path]:
    """Return the safetensors files of a checkpoint: those that its index names, else all that there are."""
    if not folder.is_dir():
        raise UserError(
            f"model.checkpoint={model.checkpoint} is not a folder; give the one with the safetensors, or the GGUF, "
            f"that the server loads, absolute or relative to {Path.cwd()}."
        )
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        found = sorted(folder.glob("*.safetensors"))
        if not found:
            raise UserError(f"model.checkpoint={model.checkpoint} holds no safetensors, and not one GGUF.")
        return found
    named = _json(index).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise UserError(f"{index} does not say which tensor is in which file; fetch it again.")
    files = [folder / Path(name).name for name in sorted(set(named.values()))]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file} is missing: {index.name} names it; put all files of the model in one folder.")
    return files


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file; empty if there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); fetch it again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object; fetch it again.")
    return content


def _quantization(folder: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the checkpoint's description of its quantization; empty if it has none."""
    for description in (config.get("quantization_config"), _json(folder / "quantize_config.json")):
        if isinstance(description, dict) and description:
            return description
    return {}


def _check_label(folder: Path, described: Mapping[str, Any], tensors: Mapping[str, Tensor], quant: QuantConfig) -> None:
    """Refuse a checkpoint of another quant: swept as this one, it would put a wrong name on every result."""
    method = described.get("quant_method")
    if quant.method is not None:
        if method is None and any(_last(name) in PACKED for name in tensors):
            return  # older checkpoints do not say
        if method not in (quant.method, CONTAINER):
            held = method or f"weights that are not quantized ({_most(tensors)})"
            raise UserError(
                f"{folder} holds {held}, not {quant.name}; choose the quant that it holds, or another folder."
            )
    elif quant.file_type is not None and (method or FLOAT_TYPES.get(_most(tensors)) != quant.file_type):
        raise UserError(
            f"{folder} holds {method or _most(tensors)}, not {quant.name}; choose the quant that it holds, or another "
            "folder."
        )


def count_weights(tensors: Mapping[str, Tensor], described: Mapping[str, Any], folder: Path) -> int:
    """Count the weights that the tensors stand for.

    Raises:
        UserError: a tensor is of a kind that is not known here.
    """
    count = 0
    for name, tensor in tensors.items():
        last = _last(name)
        if last in BESIDE:
            continue
        stem = name.removesuffix(last)
        if last in PACKED:
            held = _packed(tensor, last, stem, tensors, described)
        elif tensor.dtype in WHOLE or (tensor.dtype == "I8" and last == "weight"):
            held = tensor.elements
        else:
            held = None
        if held is None:
            raise UserError(
                f"{folder} holds the tensor {name} ({tensor.dtype}), of which quantexp cannot tell how many weights it "
                "stands for: leave out model.checkpoint and give quant.bits_per_weight=NUMBER."
            )
        count += held
    if not count:
        raise UserError(f"{folder} holds no weights; give model.checkpoint the folder that the server loads.")
    return count


def _packed(
    tensor: Tensor, last: str, stem: str, tensors: Mapping[str, Tensor], described: Mapping[str, Any]
) -> int | None:
    """Weights in a packed tensor, from the shapes of what stands beside it; None where they do not tell."""
    if len(tensor.shape) != (3 if last == "trellis" else 2):
        return None
    rows, columns = tensor.shape[:2]
    if last == "trellis":  # tiles of 16 x 16 weights: [in/16, out/16, 16 bits]
        return rows * columns * 256
    if last == "q_weight":  # EXL2: [packed, out], its order of the inputs has one entry each
        order = tensors.get(f"{stem}q_invperm") or tensors.get(f"{stem}q_perm")
        return order.elements * columns if order else None
    if last == "qweight":
        scales, order = tensors.get(f"{stem}scales"), tensors.get(f"{stem}g_idx")
        outputs = scales.shape[-1] if scales and scales.shape else 0
        if outputs > columns:  # AWQ packs along the outputs: [in, out bits/32]
            return rows * outputs
        if outputs == columns and order:  # GPTQ along the inputs: [in bits/32, out]
            return order.elements * columns
    bits = _bits(described)
    return tensor.elements * BITS[tensor.dtype] // bits if bits else None


def _bits(described: Mapping[str, Any]) -> int | None:
    """Bits of a quantized weight as the checkpoint describes them; None where it names none, or several."""
    found = {described[key] for key in ("bits", "w_bit") if isinstance(described.get(key), int)}
    groups = described.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        bits = weights.get("num_bits") if isinstance(weights, dict) else None
        found |= {bits} if isinstance(bits, int) else set()
    return found.pop() if len(found) == 1 and min(found) > 0 else None


def _most(tensors: Mapping[str, Tensor]) -> str:
    """Return the type of most elements."""
    count: Counter[str] = Counter()
    for tensor in tensors.values():
        count[tensor.dtype] += tensor.elements
    return count.most_common(1)[0][0]


def _last(name: str) -> str:
    return name.rpartition(".")[2]
