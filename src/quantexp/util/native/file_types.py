"""llama.cpp's types of files by name, read from the text of its Python binding, which is not imported."""

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path


@cache
def list_file_types() -> dict[int, str]:
    """Map llama.cpp's numbers for whole-file types to their names, e.g. 15 to MOSTLY_Q4_K_M; none without the binding.

    They are the enumeration llama_ftype in llama.h.
    """
    binding = _find_binding()
    text = "" if binding is None else binding.read_text(encoding="utf-8")
    return {int(number): name for name, number in re.findall(r"^LLAMA_FTYPE_(\w+) = (\d+)\b", text, re.MULTILINE)}


def _find_binding() -> Path | None:
    """Find the binding's source text: of the package that would be imported, else of the one that is installed."""
    spec = find_spec("llama_cpp")
    imported = Path(spec.origin).with_name("llama_cpp.py") if spec and spec.origin else None
    if spec is None or (imported is not None and imported.is_file()):
        return imported
    try:
        installed = Path(str(distribution("llama-cpp-python").locate_file("llama_cpp/llama_cpp.py")))
    except PackageNotFoundError:
        return None
    return installed if installed.is_file() else None


@cache
def list_quants() -> dict[str, str]:
    """Map what people call a file's type, e.g. Q4_K_M, to llama.cpp's name of it; none without the binding.

    MXFP4_MOE is called MXFP4 as well: publishers use both.
    """
    types = {name_quant(each): each for each in list_file_types().values() if re.match("ALL_|MOSTLY_", each)}
    short = {name.removesuffix("_MOE"): each for name, each in types.items()}
    return dict(sorted((short | types).items()))


def name_quant(file_type: str) -> str:
    """Return a file type's name as people write it."""
    return re.sub("^(ALL|MOSTLY)_", "", file_type)
