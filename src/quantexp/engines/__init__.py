"""What generates: the interface, and the one loaded engine that consecutive jobs share."""

from typing import TYPE_CHECKING

from quantexp.config import EngineConfig, ModelConfig
from quantexp.engines.base import Decoding, Engine, Prompt
from quantexp.store.completion import Completion
from quantexp.util.errors import UserError

if TYPE_CHECKING:
    from quantexp.models import ModelFile  # which loads llama.cpp

__all__ = [
    "Completion",
    "Decoding",
    "Engine",
    "Prompt",
    "close_engine",
    "open_engine",
]

_open: tuple[object, Engine] | None = None


def open_engine(file: "ModelFile", model: ModelConfig, engine: EngineConfig) -> Engine:
    """The engine for this file: the one already open, if nothing differs, else a new one.

    Only one is open at a time: the previous model leaves the memory before the next one is loaded.

    Raises:
        UserError: the engine is unknown, the model cannot be loaded, or it has no chat template.
    """
    global _open
    key = (file, model.chat_template, engine)
    if _open is not None and _open[0] == key:
        return _open[1]
    close_engine()
    opened: Engine
    # Loading either's libraries takes a while; commands that generate nothing do without.
    if engine.name == "llama_cpp":
        from quantexp.engines.llama_cpp.engine import LlamaCpp

        opened = LlamaCpp(file, model, engine)
    elif engine.name == "openai":
        from quantexp.engines.openai.engine import OpenAIServer

        opened = OpenAIServer(file, model, engine)
    else:
        raise UserError(f"engine.name={engine.name} is unknown; choose llama_cpp or openai.")
    _open = (key, opened)
    return opened


def close_engine() -> None:
    """Release the open model's memory, if there is one."""
    global _open
    if _open is not None:
        _open[1].close()
        _open = None
