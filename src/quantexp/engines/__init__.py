"""Inference engines: the interface, and the one loaded engine that consecutive jobs share."""

from quantexp.config import EngineConfig, ModelConfig
from quantexp.engines.base import Decoding, Engine, Prompt
from quantexp.engines.registry import get_engine
from quantexp.models import ModelFile
from quantexp.store.completion import Completion

__all__ = [
    "Completion",
    "Decoding",
    "Engine",
    "Prompt",
    "close_engine",
    "open_engine",
]

_open: tuple[object, Engine] | None = None


def open_engine(file: ModelFile, model: ModelConfig, engine: EngineConfig) -> Engine:
    """Return the engine for this file: the one already open, if nothing differs, else a new one.

    Only one is open at a time: the previous model leaves the memory before the next one is loaded.

    Raises:
        UserError: the engine is unknown, the model cannot be loaded, or it has no chat template.
    """
    global _open
    key = (file, model.chat_template, model.template, model.reasoning, model.reasoning_tokens, engine)
    if _open is not None and _open[0] == key:
        return _open[1]
    close_engine()
    opened = get_engine(engine.name).open(file, model, engine)
    _open = (key, opened)
    return opened


def close_engine() -> None:
    """Release the open model's memory, if there is one."""
    global _open
    if _open is not None:
        _open[1].close()
        _open = None
