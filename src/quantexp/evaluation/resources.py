"""Resources of graders: opened for a grader that needs them, and closed when it has graded."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from quantexp.config.grading import EmbedderConfig, JudgeConfig
from quantexp.tasks.graders.base import GradeAnswer, Grader, Need
from quantexp.util.errors import UserError

if TYPE_CHECKING:
    from quantexp.evaluation.judge_engine import ModelUnderTest
    from quantexp.store import CompletionStore


@dataclass(frozen=True, slots=True)
class ResourceSettings:
    """The settings that resources are opened by; a job and `quantexp.regrade` fill them in.

    Attributes:
        name: of what is graded, for the terminal.
        judge: the judge, if there is one.
        embedder: the embedder, if there is one.
        known: the completions that exist already, to which a judge's replies are added; None: there is no store.
        tested: the model whose answers are graded; None if that is not known.
        shows: whether a resource may show a bar of its own.
        unsafe_code: whether generated code may run although something is open to it (`task.unsafe_code`).
    """

    name: str
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    embedder: EmbedderConfig = field(default_factory=EmbedderConfig)
    known: "CompletionStore | None" = None
    tested: "ModelUnderTest | None" = None
    shows: bool = True
    unsafe_code: bool = False


class Resource(Protocol):
    """A resource that is open.

    Attributes:
        facts: recorded with the grades, as tags of the run; known once the grader has been opened.
    """

    @property
    def facts(self) -> Mapping[str, str]: ...  # noqa: D102


@runtime_checkable
class IdentifiedResource(Resource, Protocol):
    """A resource that decides grades: one judge's verdicts are not another's.

    Attributes:
        identity: all that grades depend on of it; runs with another one are not compared.
    """

    @property
    def identity(self) -> Mapping[str, str]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class OpenGrader:
    """A grader that is open.

    Attributes:
        grade: an answer and the item's fields in, a grade out.
        identity: of its resources.
        facts: of its resources.
    """

    grade: GradeAnswer
    identity: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


_MISSING: Mapping[Need, tuple[str, str]] = MappingProxyType(
    {
        "judge": (
            "a judge",
            "judge=local judge.model.path=FILE.gguf, or judge=server judge.model.name=NAME judge.engine.url=URL",
        ),
        "embedder": (
            "an embedder",
            "embedder=sentence-transformers embedder.path=FOLDER, or embedder=gguf embedder.path=FILE.gguf",
        ),
    }
)
"""What a need that is none by default is called, and what to add for it."""


def check_resources(grader: Grader, judge: JudgeConfig, embedder: EmbedderConfig) -> None:
    """Refuse a grader that needs what the configuration does not have, before any model is loaded.

    Raises:
        UserError: it needs a judge or an embedder, and there is none.
    """
    given: Mapping[Need, str] = {"judge": judge.name, "embedder": embedder.name}
    for need in sorted(grader.needs & given.keys()):
        _refuse_none(need, given[need], f"The grader {grader.name}")


def _refuse_none(need: Need, name: str, who: str = "The grader") -> None:
    if name == "none":
        what, add = _MISSING[need]
        raise UserError(f"{who} needs {what}: add {add}.")


@contextmanager
def _open_judge(settings: ResourceSettings) -> Iterator[Resource]:
    from quantexp.evaluation.judge_engine import open_judge_model
    from quantexp.evaluation.judging import EngineJudge

    _refuse_none("judge", settings.judge.name)
    assert settings.known is not None, "whoever grades by a judge has a store"
    assert settings.tested is not None, "likewise"
    with open_judge_model(settings.judge, settings.tested) as model:
        yield EngineJudge(settings.judge, model, settings.known, shows=settings.shows)


@contextmanager
def _open_embedder(settings: ResourceSettings) -> Iterator[Resource]:
    from quantexp.evaluation.embedding import open_text_embedder

    _refuse_none("embedder", settings.embedder.name)
    yield open_text_embedder(settings.embedder)


def _open_sandbox(settings: ResourceSettings) -> AbstractContextManager[Resource]:
    from quantexp.util.code_sandbox import open_sandbox

    return open_sandbox(settings.name, settings.unsafe_code, settings.shows)


OPENERS: Mapping[Need, Callable[[ResourceSettings], AbstractContextManager[Resource]]] = MappingProxyType(
    {"judge": _open_judge, "embedder": _open_embedder, "sandbox": _open_sandbox}
)
"""Opens a resource, by the need that it meets; it imports what it takes only when it is called."""


@contextmanager
def open_grader(grader: Grader, settings: ResourceSettings) -> Iterator[OpenGrader]:
    """Open a grader with the resources that it needs, and no others.

    Args:
        grader: who is to grade.
        settings: what its resources are opened by.

    Raises:
        UserError: one that it needs cannot be had.
    """
    with ExitStack() as stack:
        opened = {need: stack.enter_context(OPENERS[need](settings)) for need in sorted(grader.needs & OPENERS.keys())}
        grade = stack.enter_context(grader.open(opened))
        # Only now: opening the grader may have measured its resources.
        identified = [resource for resource in opened.values() if isinstance(resource, IdentifiedResource)]
        identity = {name: value for resource in identified for name, value in resource.identity.items()}
        facts = {name: value for resource in opened.values() for name, value in resource.facts.items()}
        yield OpenGrader(grade, identity, facts)
