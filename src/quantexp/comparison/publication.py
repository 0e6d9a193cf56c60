"""Results for publication, as one JSON file: what was run, what came of it, and hashes of every answer.

The types below are its schema (docs/reference/export.schema.json is made from them) and check it when it is read.
"""

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

SCHEMA = 1
"""Version of the file."""

LARGEST = 1 << 28
"""Bytes of a file that is read; seventeen files on three tasks of a thousand items make some ten million."""

Hash = Annotated[str, Field(pattern="^[0-9a-f]{16}$", description="The first 16 digits of a SHA-256.")]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="A SHA-256.")]
Share = Annotated[float, Field(ge=-1, le=1, description="A fraction of the score: 0.01 is a point.")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)


class Score(_Part):
    """A mean score with its interval."""

    mean: Share
    low: Share
    high: Share
    n: int = Field(description="Units: unique items.")
    answers: int
    confidence: float
    interval: str = Field(description="The method.")


class Loss(_Part):
    """The baseline minus the condition, on the same items: above 0 the baseline is better."""

    difference: Share
    low: Share
    high: Share
    upper: Share = Field(description="One-sided bound, which the margin is held against.")
    n: int
    p_value: float
    p_adjusted: float | None = Field(description="After Holm's correction over all comparisons of the file.")
    margin: float | None
    verdict: str | None
    test: str = Field(description="The method.")


class Condition(_Part):
    """One condition on one task."""

    model: str
    task: str
    condition: str
    items: int
    repeats: int = Field(description="Runs (seeds) that the answers come from.")
    grader: str
    bits_per_weight: float | None
    file_bytes: int | None
    tokens_per_second: float | None
    score: Score
    loss: Loss | None = Field(description="null: the baseline, or what could not be compared.")


class ModelFile(_Part):
    """The file of weights."""

    name: str = Field(description="Without its folder.")
    sha256: str
    bytes: int | None
    bits_per_weight: float | None
    types: str | None = Field(description="Types of its tensors by their share of the weights.")
    imatrix: str | None = Field(description="The importance matrix that it names.")


class Software(_Part):
    """Versions."""

    quantexp: str
    commit: str
    library: str = Field(description="llama-cpp-python, or the server's name.")
    build: str | None = Field(description="Hash of llama.cpp's shared libraries.")
    revision: str | None = Field(description="Of quantexp's engine; another one may give other answers.")
    python: str


class Machine(_Part):
    """The kind of machine; nothing that names one."""

    system: str
    processor: str
    extensions: str
    features: str = Field(description="Of the processor, as far as this build of llama.cpp uses them.")


class Answers(_Part):
    """One entry an answer in every list, in the order in which they were asked."""

    item: tuple[str, ...]
    sample: tuple[int, ...]
    cluster: tuple[str, ...] = Field(description="Items that ask the same share one, and count once.")
    prompt: tuple[Hash, ...]
    completion: tuple[Hash, ...] = Field(description="Of the JSON list of output, reason of its end, and its tokens.")
    score: tuple[float | None, ...] = Field(description="null: the item could not be asked.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        lists = (self.item, self.sample, self.cluster, self.prompt, self.completion, self.score)
        if len({len(each) for each in lists}) > 1:
            raise ValueError("its lists are not equally long")
        if len(set(zip(self.item, self.sample, strict=True))) != len(self.item):
            raise ValueError("an item's sample is there twice")
        return self


class Job(_Part):
    """One run: what it asked for, and each answer as a hash."""

    model: str
    condition: str
    task: str
    seed: int
    settings: dict[str, Any] = Field(description="Keys of quantexp's configuration that are not at their defaults.")
    chat_template: str | None = Field(description="Text of the template in place of the file's, if there was one.")
    stopped: str | None = Field(description="How many items were asked, if the job ended once its verdict was known.")
    date: str = Field(description="UTC, ISO 8601.")
    file: ModelFile
    identity: dict[str, dict[str, Any]] = Field(
        description="What the scores depend on besides the condition: model, data, prompt, reader, grader, settings."
    )
    software: Software
    machine: Machine
    prompt_tokens: int
    completion_tokens: int
    answers: Answers


class Publication(_Part):
    """Results of one sweep."""

    schema_version: Literal[1] = Field(alias="schema")
    sha256: Digest = Field(description="Of all other keys, as JSON with sorted keys and without spaces.")
    title: str
    baseline: str
    command: str | None = Field(description="What ran the sweep, without folders of the machine.")
    stats: dict[str, Any] = Field(description="The analysis: keys of `stats`.")
    protocol: dict[str, str]
    notes: tuple[str, ...] = Field(description="Caveats, refusals and failures, in sentences.")
    conditions: tuple[Condition, ...]
    jobs: tuple[Job, ...]

    def dump(self) -> str:
        """Return it as JSON."""
        content = self.model_dump(mode="json", by_alias=True)
        return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def make_publication(**content: Any) -> Publication:
    """Seal what is published by its hash."""
    unsealed = Publication(schema=1, sha256="0" * 64, **content)
    plain = unsealed.model_dump(mode="json", by_alias=True)
    return unsealed.model_copy(update={"sha256": hash_content(plain)})


def hash_content(content: dict[str, Any]) -> str:
    """Return the SHA-256 of all but its own entry."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def make_schema() -> dict[str, Any]:
    """Return the file's JSON Schema (draft 2020-12)."""
    schema = Publication.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "results.json of quantexp"}


def read_publication(path: Path) -> Publication:
    """Read a published file.

    Raises:
        UserError: it is not there, of another version, damaged, or was changed since it was made.
    """
    content = _load(path)
    if content.get("schema") != SCHEMA:
        raise UserError(
            f"{path} is of another version (schema {one_line(str(content.get('schema')), 20)}, and this quantexp reads "
            f"{SCHEMA}); read it by the quantexp that wrote it, or export it again."
        )
    try:
        found = Publication.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise UserError(
            f"{path} is no results.json of quantexp ({place}: {one_line(first['msg'], 100)}); get the file again."
        ) from error
    try:
        whole = hash_content(content) == found.sha256
    except ValueError:  # a surrogate, or a number that JSON has not
        whole = False
    if not whole:
        raise UserError(
            f"{path} was changed after it was made: its sha256 is not that of its content; get the file again."
        )
    _check_means(path, found)
    return found


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} is larger than {LARGEST >> 20} MB, which no results.json of quantexp is.")
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise UserError(f"{path} is not there; give the results.json that quantexp.export has written.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; give the results.json in it.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({one_line(str(error), 100)}); get the file again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no results.json of quantexp (it holds no keys); get the file again.")
    return content


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _check_means(path: Path, found: Publication) -> None:
    """Refuse scores that are not those of the answers.

    Raises:
        UserError: a mean is not the answers' own.
    """
    answers: dict[tuple[str, str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    by_answer = found.stats.get("unit") == "answer"
    for number, job in enumerate(found.jobs):
        units = answers[job.model, job.task, job.condition]
        for item, cluster, score in zip(job.answers.item, job.answers.cluster, job.answers.score, strict=True):
            if score is not None:
                units[f"{number} {item}" if by_answer else cluster].append(score)
    for each in found.conditions:
        means = [sum(scores) / len(scores) for scores in answers[each.model, each.task, each.condition].values()]
        if not means or abs(sum(means) / len(means) - each.score.mean) > 1e-6:
            raise UserError(
                f"{path}: the score of {each.condition} on {each.task} is not the mean of its answers' scores; the "
                "file was put together by hand, or damaged."
            )
