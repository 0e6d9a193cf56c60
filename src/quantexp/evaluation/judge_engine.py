"""The model of a judge: opened from the keys of `judge`, and never the model under test."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from quantexp import models
from quantexp.config import Config, EngineConfig, ModelConfig, QuantConfig, TaskConfig
from quantexp.config.grading import JudgeConfig
from quantexp.config.ranges import find_range_problems
from quantexp.config.validation import typed
from quantexp.engines.base import Engine
from quantexp.engines.registry import get_engine
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

Section = TypeVar("Section", ModelConfig, EngineConfig)


@dataclass(frozen=True, slots=True)
class ModelUnderTest:
    """The model whose answers are graded, as far as a judge must not be the same.

    Attributes:
        name: what reports call it.
        sha256: of its file; empty if that is not known.
        architecture: of its file; empty if that is not known.
        url: address of its server; empty of a model in this process.
        served: the server's name of it; likewise.
    """

    name: str
    sha256: str
    architecture: str = ""
    url: str = ""
    served: str = ""


@dataclass(frozen=True, slots=True)
class JudgeModel:
    """The opened model of a judge.

    Attributes:
        name: what reports call it.
        identity: its file by its hash, or the server and its name there, in words.
        engine: what answers.
        system: a system turn before each question; empty if there is none.
        family: what it has in common with the model under test, in words; empty if nothing is known.
        is_exact: whether the same question has the same reply for certain, unless replies are drawn.
    """

    name: str
    identity: str
    engine: Engine
    system: str
    family: str
    is_exact: bool


@contextmanager
def open_judge_model(config: JudgeConfig, tested: ModelUnderTest) -> Iterator[JudgeModel]:
    """Open the model of a judge, beside whatever else is open.

    Raises:
        UserError: it cannot be opened, or it is the model under test.
    """
    model, engine = _read_model(config), _read_engine(config)
    # Of a model that only a server has, nobody asks here how many bits its weights have.
    quant = QuantConfig("as-is", bits_per_weight=16.0 if model.source == "server" and not model.checkpoint else None)
    task = TaskConfig("judge", max_tokens=config.max_tokens)
    _check(Config(model=model, quant=quant, task=task, engine=engine))
    file, _ = models.resolve(model, quant)
    refuse_same_model(model.name, file, tested)
    with closing(get_engine(engine.name).open(file, model, engine)) as opened:
        url, served = opened.machine.get("url", ""), opened.machine.get("model", "")
        if url and (url, served) == (tested.url, tested.served):
            raise UserError(_same_model(model.name, f"{served} of {url}"))
        identity = f"{served} of {url}" if url else f"sha256 {file.sha256[:16]}"
        family = _find_family(model.name, file.architecture, tested)
        yield JudgeModel(model.name, identity, opened, model.system or "", family, is_exact=not url)


def refuse_same_model(name: str, file: models.ModelFile, tested: ModelUnderTest) -> None:
    """Refuse a judge that is the model under test, at whichever quant.

    Raises:
        UserError: it has the same file, or the same name.
    """
    if file.sha256 and file.sha256 == tested.sha256:
        raise UserError(_same_model(name, f"the file with sha256 {file.sha256[:16]}"))
    if name.casefold() == tested.name.casefold():
        raise UserError(_same_model(name, f"{tested.name} by its name"))


def _same_model(name: str, what: str) -> str:
    return (
        f"The judge {one_line(name)} is the model under test ({one_line(what)}), and nobody judges their own answers: "
        "choose another judge."
    )


def _find_family(name: str, architecture: str, tested: ModelUnderTest) -> str:
    """Say that a judge is of the family of the model under test: same architecture, or names that begin alike."""
    if architecture and architecture == tested.architecture:
        return f"its architecture, {architecture}, is that of the model under test"
    begins = [found[0] if (found := re.match(r"[a-z]{3,}", each.casefold())) else each for each in (name, tested.name)]
    return f"its name begins like that of the model under test, {tested.name}" if begins[0] == begins[1] else ""


def _read_model(config: JudgeConfig) -> ModelConfig:
    given: dict[str, Any] = dict(config.model)
    if "name" not in given:
        path = given.get("path") or given.get("file") or given.get("repository")
        if path is None:
            key = "model.name=NAME" if config.name == "server" else "model.path=FILE.gguf"
            raise UserError(f"judge={config.name} does not say which model judges: add judge.{key}.")
        given["name"] = Path(str(path)).name.removesuffix(".gguf")
    return _read_section(given, "judge.model", ModelConfig)


def _read_engine(config: JudgeConfig) -> EngineConfig:
    given = dict(config.engine)
    if config.name == "server":
        given.setdefault("model", None)
    return _read_section(given, "judge.engine", EngineConfig)


def _read_section(given: Mapping[str, Any], key: str, schema: type[Section]) -> Section:
    try:
        section = typed(OmegaConf.create({**given}), schema)
    except OmegaConfBaseException as error:
        raise UserError(f"{key} cannot be read: {one_line(str(error).splitlines()[0], 300)}.") from error
    for problem in find_range_problems(section, f"{key}."):
        raise UserError(problem)
    return section


def _check(asked: Config) -> None:
    """Refuse what the judge's engine cannot do.

    Raises:
        UserError: there is something; the sentence names the keys as they are typed.
    """
    for problem in get_engine(asked.engine.name).problems(asked):
        raise UserError(re.sub(r"\b(model|engine)(?=[.=])", r"judge.\1", problem))
