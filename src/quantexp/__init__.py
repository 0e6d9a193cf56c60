"""quantexp measures what quantization costs a language model."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantexp.notebook import Result, load
    from quantexp.util.errors import UserError

    __version__: str

__all__ = ["Result", "UserError", "__version__", "load"]

_HOMES = {"Result": "quantexp.notebook", "UserError": "quantexp.util.errors", "load": "quantexp.notebook"}


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
