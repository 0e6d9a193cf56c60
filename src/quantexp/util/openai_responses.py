"""Bodies that an OpenAI-compatible server sends, checked before anything is made of them."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from quantexp.util.terminal import escape_surrogates

LONGEST_TEXT = 2_000_000
"""Characters of an answer; the store has room for them, whatever they are."""

MOST_TOKENS = 500_000
"""Of an answer."""

ROUNDING = 1e-3
"""So far above 0 a log-probability may lie: some servers round sums of probabilities to a little more than 1."""

LEAST = -3.4028235e38
"""The least float32, which llama-server gives as the log-probability of what is impossible."""

DEPTH = 4
"""Objects within objects in which the words of an error are looked for."""

NO_MONEY = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
"""Error codes that waiting does not mend, though they come with status 429."""

TOO_LONG = frozenset({"context_length_exceeded", "exceed_context_size_error", "model_context_window_exceeded"})
"""Error codes, or types, of servers that refuse a prompt for its length."""

TOO_LONG_WORDS = (
    "maximum context length",  # OpenAI, vLLM, llama_cpp.server, SGLang, Mistral, Ollama
    "maximum model length",  # vLLM
    "too long to fit into the model",  # vLLM
    "model's context length",  # SGLang, Together
    "maximum allowed length",  # SGLang
    "exceeds the available context",  # llama-server
    "exceeds context size",  # llama-server
    "exceed context window",  # llama_cpp.server
    "context window exceeds",  # MiniMax
    "exceeds the context window",  # OpenAI
    "greater than max_seq_len",  # TabbyAPI
    "cannot be enqueued. total cache",  # TabbyAPI, whose cache is smaller than the request
    "greater than the context length",  # LM Studio
    "when context the overflows",  # LM Studio
    "when context overflows",  # LM Studio
    "`inputs` tokens + `max_new_tokens` must be",  # TGI
    "`inputs` must have less than",  # TGI
    "max context length",  # Ollama
    "exceeds the context length",  # Ollama
    "exceeds context length",  # Ollama
    "prompt is too long",  # Anthropic
    "exceeds the maximum number of tokens allowed",  # Gemini
)
"""What those say that have no code for it, in small letters."""


def _as_storable(value: object) -> object:
    return escape_surrogates(value) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_as_storable), Field(max_length=LONGEST_TEXT)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Logprob = Annotated[float, Field(ge=LEAST, le=ROUNDING, allow_inf_nan=False)]


class Checked(BaseModel):
    """A part of a body; what is not named here is not looked at."""

    model_config = ConfigDict(strict=True, extra="ignore")


class UsageDetails(Checked):
    """Parts of what was written."""

    reasoning_tokens: Count | None = None


class Usage(Checked):
    """Tokens read and written."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    completion_tokens_details: UsageDetails | None = None
    reasoning_tokens: Count | None = None
    """In the form of SGLang; OpenAI and OpenRouter have it among the details."""

    @property
    def reasoning(self) -> int | None:
        """Tokens of reasoning among those written; None where the server does not count them apart."""
        details = self.completion_tokens_details
        counted = self.reasoning_tokens if details is None else details.reasoning_tokens
        # More than all that was written cannot be a part of it: such a server counts them beside.
        return counted if counted and counted <= (self.completion_tokens or 0) else None


class TokenLogprob(Checked):
    """A token's log-probability."""

    logprob: Logprob | None = None


class Logprobs(Checked):
    """Log-probabilities in either of the two forms that servers have."""

    content: Annotated[list[TokenLogprob], Field(max_length=MOST_TOKENS)] | None = None
    token_logprobs: Annotated[list[Logprob | None], Field(max_length=MOST_TOKENS)] | None = None


class Part(Checked):
    """A part of a message's content."""

    type: Text | None = None
    text: Text | None = None
    thinking: Any = None


def _join(reasoning: object) -> str:
    """Return reasoning as text, in whichever form a server has it: text, or parts with text."""
    if isinstance(reasoning, str):
        return escape_surrogates(reasoning)[:LONGEST_TEXT]
    if isinstance(reasoning, list):
        return "".join(_join(part.get("text") if isinstance(part, dict) else part) for part in reasoning)
    return ""


class Message(Checked):
    """An answer to a chat."""

    content: Text | list[Part] | None = None
    refusal: Text | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: Any = None

    @property
    def text(self) -> str | None:
        """The answer's words; None if there are none, as with a call of a tool."""
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content if part.type in (None, "text", "output_text"))
        return self.content

    @property
    def thoughts(self) -> str | None:
        """The model's reasoning, if it stands beside the answer; None if there is none."""
        parts = self.content if isinstance(self.content, list) else []
        beside = [_join(part.thinking or part.text) for part in parts if part.type in ("thinking", "reasoning")]
        found = "".join(beside) or _join(self.reasoning_content) or _join(self.reasoning)
        return found or None


class Choice(Checked):
    """One answer: a message to a chat, a text to a prompt."""

    message: Message | None = None
    text: Text | None = None
    finish_reason: Text | None = None
    logprobs: Any = None
    """A server may put anything here that was not asked for them; `check_body` with Logprobs where they were."""


class CompletionBody(Checked):
    """A completion, of a chat or of a prompt."""

    choices: Annotated[list[Choice], Field(min_length=1)]
    usage: Usage | None = None
    model: Any = None
    id: Any = None
    system_fingerprint: Any = None


Part_ = TypeVar("Part_", bound=BaseModel)


def check_body(form: type[Part_], body: object, within: str = "") -> Part_:
    """Return the body, or a part of it, in its form.

    Raises:
        ValueError: it has not this form; the message names the place.
    """
    try:
        return form.model_validate(body)
    except ValidationError as error:
        places = [each["loc"] for each in error.errors(include_url=False, include_context=False, include_input=False)]
        # What pydantic adds for the members of a union has brackets, or is a type's name.
        ours = [[str(p) for p in place if isinstance(p, int) or (p.isidentifier() and p.islower())] for place in places]
        names = max(ours, key=len)
        at = ".".join([within, *names] if within else names)
        raise ValueError(f"nonsense in {at}" if at else "something that is not a completion") from error


def parse(content: bytes) -> object:
    """JSON, whatever it holds.

    Raises:
        ValueError: it is none, or is nested too deeply.
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error, as a server puts it.

    Attributes:
        status: of HTTP, or what the body gives as such under a status that is none.
        words: the reason; empty if there is none.
        codes: its codes and types.
    """

    status: int
    words: str
    codes: frozenset[str]

    @property
    def is_without_money(self) -> bool:
        """True if the account has no credit left."""
        return not self.codes.isdisjoint(NO_MONEY)

    @property
    def is_too_long(self) -> bool:
        """True if prompt and answer do not fit the context."""
        words = self.words.lower()
        return not self.codes.isdisjoint(TOO_LONG) or any(each in words for each in TOO_LONG_WORDS)


def read_refusal(status: int, content: bytes) -> Refusal:
    """Read the body of an error, which may have any form."""
    try:
        body = parse(content)
    except ValueError:
        text = content[:1000].decode("utf-8", "replace").strip()
        return Refusal(status, "" if text.startswith("<") else text, frozenset())
    layers = _layers(body)
    codes = [layer.get(key) for layer in layers for key in ("code", "type", "error_type")]
    return Refusal(status, _words(body), frozenset(each for each in codes if isinstance(each, str)))


def find_refusal(content: bytes) -> Refusal | None:
    """Return the error in a body that came as a success; None if it holds none."""
    try:
        body = parse(content)
    except ValueError:
        return None
    if not isinstance(body, dict) or body.get("choices"):
        return None
    if not (body.get("error") or body.get("detail") or body.get("object") == "error"):
        return None
    codes = [layer.get(key) for layer in _layers(body) for key in ("status", "status_code", "code")]
    status = next((each for each in codes if type(each) is int and 400 <= each < 600), 200)
    return read_refusal(status, content)


def _layers(body: object) -> list[dict[str, Any]]:
    """Return the objects of an error, from the outermost."""
    found: list[dict[str, Any]] = []
    while isinstance(body, dict) and len(found) < DEPTH:
        found.append(body)
        body = body.get("error") or body.get("detail")
    return found


def _words(body: object, depth: int = DEPTH) -> str:
    if isinstance(body, str):
        return body
    if depth and isinstance(body, list):
        return "; ".join(filter(None, (_words(each, depth - 1) for each in body[:3])))
    if depth and isinstance(body, dict):
        for key in ("error", "detail", "message", "msg", "errors", "error_description"):
            if words := _words(body.get(key), depth - 1):
                where = body.get("loc")  # FastAPI's
                named = isinstance(where, list) and all(isinstance(each, str | int) for each in where)
                return f"{'.'.join(map(str, where))}: {words}" if named and where else words
    return ""
