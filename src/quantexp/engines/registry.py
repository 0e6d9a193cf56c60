"""The engines that can be chosen, by name. A new one is a module of its own and an entry here."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from quantexp.config import Config, EngineConfig, ModelConfig
from quantexp.engines.base import READS, TELLS, Capability, Engine, reading_problem
from quantexp.engines.validation import local_problems, server_problems
from quantexp.models import ModelFile
from quantexp.util.errors import UserError


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """An engine, known without its libraries.

    Attributes:
        capabilities: the kinds of request that it can serve.
        problems: gives a sentence for everything in a job's configuration that it cannot do.
        open: loads the model; imports what that needs.
        room: what a prompt and its answer must fit into, in words; `{context}` is the configured context.
    """

    capabilities: frozenset[Capability]
    problems: Callable[[Config], Iterator[str]]
    open: Callable[[ModelFile, ModelConfig, EngineConfig], Engine]
    room: str = "engine.context={context}"


def _open_llama_cpp(file: ModelFile, model: ModelConfig, engine: EngineConfig) -> Engine:
    from quantexp.engines.llama_cpp.engine import LlamaCpp

    return LlamaCpp(file, model, engine)


def _open_openai(file: ModelFile, model: ModelConfig, engine: EngineConfig) -> Engine:
    from quantexp.engines.openai.engine import OpenAIServer

    return OpenAIServer(file, model, engine)


ENGINES: Mapping[str, EngineSpec] = MappingProxyType(
    {
        "llama_cpp": EngineSpec(READS, local_problems, _open_llama_cpp),
        "openai": EngineSpec(TELLS, server_problems, _open_openai, "the server's context"),
    }
)
"""Every engine by its name."""


def get_engine(name: str) -> EngineSpec:
    """Return the engine of this name.

    Raises:
        UserError: there is none.
    """
    if name not in ENGINES:
        raise UserError(f"engine.name={name} is unknown; choose {' or '.join(ENGINES)}.")
    return ENGINES[name]


def check_engine(config: Config, needs: frozenset[str] = frozenset()) -> None:
    """Refuse a job that its engine cannot run.

    Args:
        config: the job.
        needs: capabilities that its task's requests need.

    Raises:
        UserError: the engine is unknown, or cannot do something that the job asks.
    """
    engine = get_engine(config.engine.name)
    for problem in engine.problems(config):
        raise UserError(problem)
    if config.divergence and "distributions" not in engine.capabilities and "likeliest" not in needs:
        raise UserError(reading_problem("divergence=true"))
    if not needs <= engine.capabilities:
        raise UserError(reading_problem(f"task={config.task.name}"))
