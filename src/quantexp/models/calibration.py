"""The text that importance matrices are made of here."""

import hashlib
from importlib.resources import files
from pathlib import Path

from quantexp.config import ModelConfig
from quantexp.util.errors import UserError

VERSION = 1
"""Part of a matrix's identity. Raise it with a change in `importance_measurement` that can change its numbers."""


def find_calibration(model: ModelConfig) -> Path:
    """Return the file that `model.calibration` names, or the bundled one.

    Raises:
        UserError: there is no such file.
    """
    if model.calibration is None:
        return Path(str(files("quantexp.models").joinpath("calibration.txt")))
    path = Path(model.calibration).expanduser().absolute()
    if not path.is_file():
        raise UserError(f"model.calibration={model.calibration} is not a file; give the path of a text.")
    return path


def read_calibration(path: Path) -> str:
    """Return the text.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"model.calibration={path} is not text in UTF-8 ({error.reason}); save it as that.") from None


def hash_calibration(model: ModelConfig) -> str:
    """Identify the text and the way in which a matrix is made of it."""
    return hashlib.sha256(find_calibration(model).read_bytes()).hexdigest() + f" v{VERSION}"
