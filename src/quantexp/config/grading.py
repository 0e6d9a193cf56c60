"""The types of the configuration of what graders ask: a judge and an embedder."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

from quantexp.config.choices import Pooling
from quantexp.config.ranges import Example


@dataclass
class JudgeConfig:
    """The judge: another model, which graders ask about answers."""

    name: str = "none"
    """`none`, `local` (a GGUF here) or `server`."""
    model: dict[str, Any] = field(default_factory=dict)
    """Its model by the keys of `model`, such as {path: judge-Q8_0.gguf}, or on a server {name: NAME}."""
    engine: dict[str, Any] = field(default_factory=dict)
    """Its engine by the keys of `engine`, such as {url: 'http://127.0.0.1:8000/v1'}."""
    votes: Annotated[int, Ge(1)] = 1
    """Votes on each question in each order of its texts; more than one needs a `temperature`."""
    temperature: Annotated[float, Ge(0)] = 0.0
    """Of its replies; 0: the likeliest reply."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of its votes."""
    max_tokens: Annotated[int, Ge(1)] = 16
    """A reply is cut off after so many tokens; reasoning before it does not count."""
    agreement: Annotated[float, Ge(-1), Lt(1), Example("0.6")] = 0.6
    """Cohen's kappa with the labels of the bundled pairs; a judge below it is refused."""


@dataclass
class EmbedderConfig:
    """The embedder: a model that turns sentences into vectors, by which graders compare them."""

    name: str = "none"
    """`none`, `sentence-transformers` (a folder of that library) or `gguf`."""
    path: str | None = None
    """The folder, or the GGUF."""
    pooling: Pooling = Pooling.file
    """With a GGUF: how the vectors of a text's tokens become one."""
    context: Annotated[int, Gt(0), Le(1_000_000)] = 512
    """With a GGUF: tokens of a text, at most; what is longer is cut off."""
    agreement: Annotated[float, Ge(-1), Lt(1), Example("0.4")] = 0.4
    """Cohen's kappa with the labels of the bundled pairs; an embedder below it is refused."""
