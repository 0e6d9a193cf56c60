"""The keys of `quantexp.generate_extraction` and `quantexp.review_extraction`, and what makes a value unusable."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated

from annotated_types import Ge
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from quantexp.config import hydra_schemas
from quantexp.config.ranges import find_range_problems
from quantexp.config.schema import Natural, Positive, Temperature
from quantexp.config.validation import typed
from quantexp.util.errors import UserError
from quantexp.util.redaction import variable_problem
from quantexp.util.urls import address_problem

Price = Annotated[float, Ge(0)]


class Structured(Enum):
    """Form in which the server is told the schema that the answer must fit."""

    json_schema = "json_schema"
    """OpenAI's structured outputs, which vLLM, llama-server and others have too."""
    json_object = "json_object"
    """A JSON object whose schema stands beside the type: llama_cpp.server."""


@dataclass
class WriterConfig:
    """Model that writes; its own section because Hydra would take a bare model=NAME for a choice of conf/model."""

    name: str = "gpt-4o-mini"
    """As the server calls it."""


@dataclass
class PriceConfig:
    """US dollars for a million tokens; null: OpenAI's price where quantexp knows it, otherwise unknown."""

    input: Price | None = None
    """For what is sent: US dollars for a million tokens; null: OpenAI's price where it is known."""
    output: Price | None = None
    """The same for what is answered."""


@dataclass
class GenerateConfig:
    """One making of e-mails."""

    out: str = "data/extraction.jsonl"
    """The e-mails, a JSON object a line; beside them, every answer (*.records.jsonl) and the verdicts of reviewers
    (*.reviews.jsonl)."""
    items: Positive = 200
    """E-mails to have in the end."""
    seed: Natural = 0
    """Of the plan, which says what each e-mail is about, and of the requests."""
    nameless: float = 0.15
    """Share of e-mails in which the writer's name stands nowhere."""
    model: WriterConfig = field(default_factory=WriterConfig)
    base_url: str | None = None
    """null: OpenAI."""
    api_key_variable: str | None = "OPENAI_API_KEY"
    """The environment variable that holds the key; null: the server needs none."""
    structured: Structured = Structured.json_schema
    """How the server is told the form of the answer."""
    temperature: Temperature | None = 1.0
    """null: not sent, for models that refuse it."""
    max_tokens: Positive = 1024
    """Of an answer; a longer one is cut off, paid for and rejected."""
    concurrency: Positive = 4
    """Requests at once."""
    timeout: float = 60.0
    """Seconds for a whole answer."""
    retries: Natural = 5
    """How often a request is sent again after a time-out, a lost connection, a status 408, 409, 429 or 5xx, or an
    answer that makes no sense."""
    attempts: Positive = 4
    """Answers asked for an e-mail, in one run of the command, before it is left open."""
    price: PriceConfig = field(default_factory=PriceConfig)
    yes: bool = False
    """Spend without asking."""


@dataclass
class ReviewConfig:
    """One reading of e-mails by a person."""

    reviewer: str = MISSING
    """Who reads; kept with every verdict."""
    path: str = "data/extraction.jsonl"
    """The e-mails; verdicts go into *.reviews.jsonl beside them."""
    first: Positive = 50
    """How many of them, from the top."""


def register_schemas() -> None:
    """Make the types known to Hydra, before it composes anything."""
    hydra_schemas.register_schemas()  # a key that is not of these commands may be one of a job's
    store = ConfigStore.instance()
    store.store(name="generate_extraction_schema", node=GenerateConfig)
    store.store(name="review_extraction_schema", node=ReviewConfig)


def refuse_multirun(arguments: Sequence[str]) -> None:
    """Refuse what makes Hydra run a command several times, and write a folder for it, before it does.

    Raises:
        UserError: an argument asks for that.
    """
    from hydra._internal.utils import get_args_parser

    options, _ = get_args_parser().parse_known_args(list(arguments))
    for argument in options.overrides:
        key, _, mode = argument.partition("=")
        if key.lstrip("+") == "hydra.mode" and mode.strip("'\"").upper() == "MULTIRUN":
            options.multirun = True
    if options.multirun:
        raise UserError("This command does one thing at a time; leave out -m, --multirun and hydra.mode=MULTIRUN.")


def generate_config(composed: DictConfig) -> GenerateConfig:
    """Return the composed config of `quantexp.generate_extraction`.

    Raises:
        UserError: a value lies outside its range.
        omegaconf.errors.OmegaConfBaseException: an unknown key, a missing value or a wrong type.
    """
    config = typed(composed, GenerateConfig)
    for key, value in (
        ("temperature", config.temperature),
        ("price.input", config.price.input),
        ("price.output", config.price.output),
    ):
        if value is not None and not math.isfinite(value):
            raise UserError(f"{key}={value} must be a finite number.")
    _refuse_out_of_range(config)
    if not (config.timeout > 0 and math.isfinite(config.timeout)):
        raise UserError(f"timeout={config.timeout} must be a number of seconds above 0.")
    if not 0 <= config.nameless <= 1:
        raise UserError(f"nameless={config.nameless} must be a share between 0 and 1, such as 0.15.")
    if (config.price.input is None) != (config.price.output is None):
        raise UserError("price.input and price.output belong together; give both, or neither.")
    if (problem := variable_problem("api_key_variable", config.api_key_variable)) is not None:
        raise UserError(problem)
    if config.base_url is not None and (problem := address_problem("base_url", config.base_url)) is not None:
        raise UserError(problem)
    _refuse_other_suffix("out", config.out)
    return config


def review_config(composed: DictConfig) -> ReviewConfig:
    """Return the composed config of `quantexp.review_extraction`.

    Raises:
        UserError: a value lies outside its range.
        omegaconf.errors.OmegaConfBaseException: an unknown key, a missing value or a wrong type.
    """
    config = typed(composed, ReviewConfig)
    _refuse_out_of_range(config)
    if not config.reviewer.strip() or not config.reviewer.isprintable():
        raise UserError("reviewer must be a name, since it is kept with every verdict; add reviewer=NAME.")
    _refuse_other_suffix("path", config.path)
    return config


def _refuse_out_of_range(config: object) -> None:
    for problem in find_range_problems(config):
        raise UserError(problem)


def _refuse_other_suffix(key: str, name: str) -> None:
    # The files beside it are named after it, and data=files knows a file by the end of its name.
    if Path(name).suffix != ".jsonl":
        raise UserError(f"{key}={name}: the file's name must end in .jsonl.")
