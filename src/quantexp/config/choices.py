"""The words that keys with a few choices take."""

from enum import Enum


class Forced(Enum):
    """Text over which divergence is measured."""

    answer = "answer"
    """The baseline's own answers."""
    gold = "gold"
    """The right answers."""


class History(Enum):
    """Earlier answers in a dialogue."""

    own = "own"
    """The model's own, so that errors compound."""
    gold = "gold"
    """Those that the item brings."""


class Tokenizer(Enum):
    """Measure of a text's length."""

    model = "model"
    """Tokens of the model's own tokenizer, chat template included."""
    characters = "characters"
    """Four characters count as a token: for servers, whose tokenizers are not here."""


class ExamplePlace(Enum):
    """Place of the worked examples."""

    turns = "turns"
    """As earlier exchanges between user and assistant."""
    answer = "answer"
    """At the head of the model's own answer, which it goes on writing: very small models follow a pattern that they
    seem to have begun themselves, where they ignore one given as a chat. Tasks without instructions have `turns`."""


class Unit(Enum):
    """Unit that counts once, independent of all others."""

    item = "item"
    """An item, with the mean score of its answers under all seeds."""
    answer = "answer"
    """An item's answer under one seed, so that an item which several seeds drew counts several times: intervals are
    then too narrow. Several samples of one seed are one answer, their mean."""


class Method(Enum):
    """Statistical method."""

    default = "default"
    """Tango's interval and McNemar's mid-p for what is right or wrong, Gaffke's bounds for graded scores; verdicts at a
    margin, corrected for the number of comparisons."""
    bootstrap = "bootstrap"
    """The percentile bootstrap for everything, without verdicts; to compare with results that were made so."""
    sequential = "sequential"
    """E-values, which hold however often one looks: a quant's job ends as soon as its verdict is known."""


class Target(Enum):
    """Population that a result is about."""

    population = "population"
    """All items of the kind that the data sample."""
    items = "items"
    """The data's own items and no others; intervals shrink with the share of them that was asked."""


class Pool(Enum):
    """Weighting of a model's tasks in the one decision over all of them."""

    none = "none"
    """No pool: each task stands for itself."""
    items = "items"
    """Each item counts equally, whatever its task."""
    tasks = "tasks"
    """Each task counts equally, whatever the number of its items."""
    weights = "weights"
    """Each task counts as `stats.pool_weights` says."""


class ReasoningEnd(Enum):
    """End of reasoning that is too long."""

    cut = "cut"
    """The output ends, without an answer."""
    force = "force"
    """The model is made to answer: the mark that ends reasoning is written in its place, and it goes on."""


class PromptForm(Enum):
    """Form of the prompt that a server is sent."""

    messages = "messages"
    """The chat; the server's own template makes the prompt of it (/v1/chat/completions)."""
    text = "text"
    """The prompt, made here by the template in the model's GGUF (/v1/completions)."""
    tokens = "tokens"
    """The prompt's token ids, by the same GGUF, for servers that take them (/v1/completions)."""


class KVType(Enum):
    """Type of the numbers in a KV cache."""

    f32 = "f32"
    """32 bits."""
    f16 = "f16"
    """16 bits."""
    bf16 = "bf16"
    """16 bits, of which fewer are for precision and more for range."""
    q8_0 = "q8_0"
    """8.5 bits."""
    q5_1 = "q5_1"
    """6 bits."""
    q5_0 = "q5_0"
    """5.5 bits."""
    q4_1 = "q4_1"
    """5 bits."""
    q4_0 = "q4_0"
    """4.5 bits."""
    iq4_nl = "iq4_nl"
    """4.5 bits, on a scale that is not linear."""


UNQUANTIZED = frozenset({KVType.f32, KVType.f16, KVType.bf16})
"""Types that hold each number by itself; the others hold blocks of 32."""


class FlashAttention(Enum):
    """Use of flash attention."""

    auto = "auto"
    """Where llama.cpp can."""
    on = "on"
    """Always; refused where it cannot."""
    off = "off"
    """Never."""


class Pooling(Enum):
    """Pooling of a text's token vectors into one."""

    file = "file"
    """As the GGUF says; one that says nothing is refused."""
    mean = "mean"
    """Their mean."""
    cls = "cls"
    """The first one."""
    last = "last"
    """The last one."""
