"""Responses of OpenAI-compatible servers: the text, why it ended, and what was counted."""

import json
import re
from contextlib import suppress

import numpy as np

from quantexp.store.completion import Completion, FinishReason
from quantexp.util.errors import UserError
from quantexp.util.openai_client import NonsenseError
from quantexp.util.openai_responses import LONGEST_TEXT, Choice, CompletionBody, Logprobs, Message, Usage, check_body
from quantexp.util.terminal import escape_surrogates, one_line

THINKING_OFF = "switch reasoning off in the server, or with 'model.template={enable_thinking: false}'"
"""The remedy where a model thinks before it answers."""

ENDED = "stop eos eostoken endturn stopsequence complete completed eosfound stopstringfound stoptoken stopstring"
"""What OpenAI, TabbyAPI, TGI, Anthropic, Cohere, LM Studio and ExLlama call the end of an answer."""

CUT = "length maxtokens maxlength maxnewtokens maxpredictedtokensreached modellength contextlengthreached"
"""What they call one that was cut."""

ENDS: dict[str, FinishReason] = {**dict.fromkeys(ENDED.split(), "stop"), **dict.fromkeys(CUT.split(), "length")}
"""Reasons for the end of an answer, in small letters and nothing but letters."""

WITHHELD = frozenset({"contentfilter", "safety", "recitation", "blocklist", "prohibitedcontent"})
"""Reasons of servers that keep an answer back."""

TOOLS = frozenset({"toolcalls", "functioncall", "tooluse", "toolcall"})
"""Reasons of servers that called a tool."""


class UngradableError(UserError):
    """An answer that cannot be graded, and would be the same the next time."""


def read_answer(
    body: object, longest: int, *, logprobs: bool, has_tools: bool = False
) -> tuple[Completion, str | None]:
    """Read the JSON of an answer.

    Args:
        body: the JSON.
        longest: tokens that were allowed.
        logprobs: whether log-probabilities were asked for; otherwise they are not looked at.
        has_tools: whether functions were sent; calls of them are then the answer, and otherwise a mistake.

    Returns:
        The answer, whose times are not known, and the fingerprint of the server's set-up, if it has such a thing.

    Raises:
        NonsenseError: it is no answer.
        UngradableError: it is one that cannot be graded.
    """
    try:
        answer = check_body(CompletionBody, body)
        choice = answer.choices[0]
        given = choice.logprobs if logprobs else None
        found = _logprobs(check_body(Logprobs, given, "choices.0.logprobs")) if given is not None else ()
    except ValueError as error:
        raise NonsenseError(str(error)) from error
    if choice.message is None and choice.text is None:
        raise NonsenseError("a completion without a text")
    usage = answer.usage or Usage()
    written = len(found) if usage.completion_tokens is None else usage.completion_tokens
    calls = choice.message.tool_calls if has_tools and choice.message is not None else None
    if calls:
        choice = choice.model_copy(update={"message": _write_calls(choice.message, calls)})
    reason = _reason(choice, written, longest)
    completion = Completion(
        tokens=(),
        logprobs=found,
        text=_text(choice, reason, written, usage.reasoning),
        finish_reason=reason,
        prompt_seconds=0.0,
        generation_seconds=0.0,
        counted=(usage.prompt_tokens or 0, written),
        reasoning=choice.message.thoughts if choice.message is not None else None,
        reasoning_tokens=usage.reasoning,
    )
    fingerprint = answer.system_fingerprint
    return completion, one_line(fingerprint, 80) if isinstance(fingerprint, str) else None


def _write_calls(message: Message | None, calls: object) -> Message:
    """Return the message with its calls of functions as words, each in the form in which Qwen and Hermes write them.

    Raises:
        NonsenseError: they are none.
    """
    assert message is not None, "it holds the calls"
    written = [message.text] if message.text else []
    for call in calls if isinstance(calls, list) else [None]:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise NonsenseError("a call of a tool without the name of a function")
        arguments = function.get("arguments") or {}
        with suppress(ValueError, RecursionError):  # what is no JSON stays text, and is graded as such
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        shown = json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)
        written.append(f"<tool_call>\n{escape_surrogates(shown)}\n</tool_call>")
    return message.model_copy(update={"content": "\n".join(written)[:LONGEST_TEXT], "tool_calls": None})


def _text(choice: Choice, reason: FinishReason, written: int, reasoned: int | None) -> str:
    """Return the text, which is empty if the model ended before it began.

    Raises:
        UngradableError: the model ended without one, though it wrote something.
    """
    if choice.message is None:
        return choice.text or ""
    text = choice.message.text
    if text is None:
        text = choice.message.refusal or choice.text
    if choice.message.tool_calls and not (text or "").strip():
        raise UngradableError("The server called a tool instead of answering; start it without tools.")
    if text is None and reason == "stop" and written > 1 and not (choice.message.thoughts or reasoned):
        raise UngradableError(
            f"The server wrote {written} tokens and sent no text of them, as with a reasoning model's thoughts or a "
            f"call of a tool; {THINKING_OFF}."
        )
    return text or ""


def _reason(choice: Choice, written: int, longest: int) -> FinishReason:
    """Why the answer ended.

    Raises:
        NonsenseError: for no reason that is known.
        UngradableError: for one that makes it no answer.
    """
    said = re.sub(r"[^a-z]", "", (choice.finish_reason or "").lower())
    if said in ENDS:
        return ENDS[said]
    if said in WITHHELD:
        raise UngradableError(
            "The server's content filter has withheld an answer, and one that is withheld can be neither right nor "
            "wrong; switch the filter off, or leave the item out of the data."
        )
    called = choice.message is not None and choice.message.tool_calls
    if said in TOOLS and (called or choice.message is None or not choice.message.text):
        raise UngradableError("The server called a tool instead of answering; start it without tools.")
    if said in TOOLS or not choice.finish_reason:  # it does not say
        return "length" if written >= longest else "stop"
    raise NonsenseError(f"a completion that ended for a reason that is unknown ({one_line(choice.finish_reason, 40)})")


def _logprobs(given: Logprobs) -> tuple[float, ...]:
    """Log-probabilities, at most 0, as float32 has them; empty unless each token has one."""
    found = [entry.logprob for entry in given.content] if given.content else given.token_logprobs or []
    known = [min(each, 0.0) for each in found if each is not None]
    return tuple(np.array(known, np.float32).tolist()) if len(known) == len(found) else ()
