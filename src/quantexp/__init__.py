"""quantexp measures what quantization costs a language model."""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantexp.file_comparison import FileComparison, compare
    from quantexp.notebook import Result, load
    from quantexp.util.errors import UserError

    __version__: str

__all__ = ["FileComparison", "Result", "UserError", "__version__", "compare", "load"]

_HOMES = {
    "FileComparison": "quantexp.file_comparison",
    "Result": "quantexp.notebook",
    "UserError": "quantexp.util.errors",
    "load": "quantexp.notebook",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: MLflow and pandas take seconds."""
    if name == "__version__":
        from importlib.metadata import version

        return version("quantexp")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Package(ModuleType):
    """This package, in which `compare` is the function also after the command's module of that name was imported."""

    @property
    def compare(self) -> Any:
        """The function that compares results."""
        from quantexp.file_comparison import compare

        return compare

    @compare.setter
    def compare(self, module: ModuleType) -> None:
        """Leave the name alone: Python sets it once it has imported quantexp.compare, which stays in sys.modules."""


sys.modules[__name__].__class__ = _Package
