"""What an OpenAI-compatible server has answered. The openai library does not check it against its own types."""

from dataclasses import dataclass
from typing import Any, cast

from openai.types import Completion
from openai.types.chat import ChatCompletion

from quantexp.engines.base import FinishReason
from quantexp.errors import UserError
from quantexp.servers import NonsenseError
from quantexp.terminal import one_line, storable


@dataclass(frozen=True, slots=True)
class OneAnswer:
    """One answer, as far as it matters here.

    Attributes:
        text: without stop strings.
        finish_reason: why it ended.
        logprobs: of its tokens; empty where the server gives none.
        counted: tokens read and written, as the server counts.
        fingerprint: of the server's set-up, if it has such a thing.
    """

    text: str
    finish_reason: FinishReason
    logprobs: tuple[float, ...]
    counted: tuple[int, int]
    fingerprint: str | None


def read_answer(answered: object) -> OneAnswer:
    """What matters of the library's object.

    Raises:
        NonsenseError: it is no answer.
        UserError: it is one that cannot be graded, and would be the next time.
    """
    if not isinstance(answered, ChatCompletion | Completion):
        raise NonsenseError("something that is not a completion")
    got = cast(Any, answered)
    choice = got.choices[0] if isinstance(got.choices, list) and got.choices else None
    if choice is None:
        raise NonsenseError("a completion without a choice")
    message = choice.message if isinstance(answered, ChatCompletion) else choice
    if message is None:
        raise NonsenseError("a completion without a message")
    text = message.content if isinstance(answered, ChatCompletion) else message.text
    if text is not None and not isinstance(text, str):
        raise NonsenseError("a completion whose text is not text")
    read, written = (getattr(got.usage, f"{what}_tokens", None) for what in ("prompt", "completion"))
    if not isinstance(read, int) or not isinstance(written, int):
        raise NonsenseError("a completion that does not say how many tokens were read and written (usage)")
    reason = _reason(choice.finish_reason)
    if text is None and reason == "stop" and written > 1:
        raise UserError(
            f"The server wrote {written} tokens and sent no text of them, as with a reasoning model's thoughts or a "
            "call of a tool; switch that off in the server, or with engine.extra_body."
        )
    return OneAnswer(
        text=storable(text or ""),
        finish_reason=reason,
        logprobs=_logprobs(choice.logprobs),
        counted=(read, written),
        fingerprint=got.system_fingerprint if isinstance(got.system_fingerprint, str) else None,
    )


def _reason(said: object) -> FinishReason:
    if said == "stop" or said == "length":
        return said
    if said == "content_filter":
        raise UserError(
            "The server's content filter has withheld an answer, and one that is withheld can be neither right nor "
            "wrong; switch the filter off, or leave the item out of the data."
        )
    if said in ("tool_calls", "function_call"):
        raise UserError("The server called a tool instead of answering; start it without tools.")
    raise NonsenseError(f"a completion that ended for a reason that is unknown ({one_line(str(said), 40)})")


def _logprobs(given: Any) -> tuple[float, ...]:
    """In either of the two forms that servers have; empty unless each token has one."""
    content = getattr(given, "content", None)
    found: list[Any] = (
        [_logprob(entry) for entry in content] if content else getattr(given, "token_logprobs", None) or []
    )
    return tuple(float(each) for each in found) if all(isinstance(each, int | float) for each in found) else ()


def _logprob(entry: object) -> object:
    return entry.get("logprob") if isinstance(entry, dict) else getattr(entry, "logprob", None)
