"""The recipe of a quant that is made here: its type, and what else decides its bytes."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from quantexp.config import ModelConfig, QuantConfig
from quantexp.config.fingerprint import AUTO
from quantexp.models.calibration import find_calibration, hash_calibration
from quantexp.models.gguf import hashed
from quantexp.util.errors import UserError
from quantexp.util.native.file_types import list_file_types

FLOATS = ("ALL_F32", "MOSTLY_F16", "MOSTLY_BF16")
"""Types whose weights are not quantized: a ladder starts from one of these."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a quant is made by.

    Attributes:
        file_type: llama.cpp's name of it, such as MOSTLY_Q4_K_M.
        imatrix: an importance matrix, if any.
        imatrix_sha256: the hash of that file.
        calibration: the text of which an importance matrix is to be made, if one is.
        calibration_sha256: the hash of that text, with how the matrix is made.
        output_type: of the output tensor; None: llama.cpp's choice.
        embedding_type: of the token embeddings, likewise.
        tensor_types: patterns of other tensors' names, with the types of those; the first that fits counts.
    """

    file_type: str
    imatrix: Path | None = None
    imatrix_sha256: str = ""
    calibration: Path | None = None
    calibration_sha256: str = ""
    output_type: str | None = None
    embedding_type: str | None = None
    tensor_types: tuple[tuple[str, str], ...] = ()

    @property
    def digest(self) -> str:
        """Hash of all but the file type; empty if that alone decides."""
        parts: list[object] = [self.imatrix_sha256, self.output_type, self.embedding_type, self.tensor_types]
        parts += [self.calibration_sha256] if self.calibration_sha256 else []
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16] if any(parts) else ""

    @property
    def name(self) -> str:
        """What tells its file from those of the same model's other recipes."""
        return f"{self.file_type}-{self.digest}" if self.digest else self.file_type


def read_recipe(model: ModelConfig, quant: QuantConfig, cache: Path) -> Recipe:
    """Return the recipe of a quant that is to be made.

    Raises:
        UserError: the quant names no type to make, llama.cpp knows no such type, or the importance matrix is not there.
    """
    file_type = quant.file_type
    if file_type is None:
        raise UserError(
            f"quant={quant.name} names no file type to quantize {model.name} to; "
            "choose a quant such as Q4_K_M, or set model.quantize=false."
        )
    if file_type not in list_file_types().values():
        known = ", ".join(sorted(list_file_types().values()))
        raise UserError(f"quant.file_type={file_type} is unknown to llama.cpp; choose one of {known}.")
    is_made = model.imatrix == AUTO
    imatrix = Path(model.imatrix).expanduser().absolute() if model.imatrix and not is_made else None
    if imatrix is not None and not imatrix.is_file():
        raise UserError(f"model.imatrix={model.imatrix} is not a file; give the path of an importance matrix.")
    told = Recipe(
        file_type,
        output_type=model.output_type and model.output_type.upper(),
        embedding_type=model.embedding_type and model.embedding_type.upper(),
    )
    if file_type in FLOATS:  # of which llama.cpp reads no more
        return told
    types = tuple((pattern, kind.upper()) for pattern, kind in model.tensor_types.items())
    if is_made:
        told = replace(told, calibration=find_calibration(model), calibration_sha256=hash_calibration(model))
    digest = hashed(imatrix, cache) if imatrix is not None else ""
    return replace(told, imatrix=imatrix, imatrix_sha256=digest, tensor_types=types)
