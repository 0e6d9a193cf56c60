"""Fields of a request that say how tokens are chosen: OpenAI's own, and those that only some servers have."""

from collections.abc import Mapping
from dataclasses import dataclass

from quantexp.engines.base import Decoding
from quantexp.util.errors import UserError


@dataclass(frozen=True, slots=True)
class _Names:
    """A server's names of what the protocol lacks.

    Attributes:
        repetition_penalty: its name.
        penalty_last_n: its name; None if its penalties have no window.
        every_token: the top_k that draws from all tokens.
        whole_window: the window that holds all of prompt and answer.
    """

    repetition_penalty: str
    penalty_last_n: str | None
    every_token: int
    whole_window: int = -1


_KNOWN: Mapping[str, _Names] = {
    "llama-server": _Names("repeat_penalty", "repeat_last_n", 0, 2**20),  # not all versions take -1
    "llama_cpp.server": _Names("repeat_penalty", None, 0),
    "vLLM": _Names("repetition_penalty", None, -1),
    "SGLang": _Names("repetition_penalty", None, -1),
    "TabbyAPI": _Names("repetition_penalty", "penalty_range", 0),
}
"""Servers that take top_k, min_p and a repetition penalty, each of them under `top_k` and `min_p`."""

_WINDOWS = frozenset({64, -1})
"""Windows that can be asked of a server without one: the default, which nobody chose, and all tokens."""


def sampling_fields(kind: str, decoding: Decoding) -> dict[str, float]:
    """Return the fields for top_k, min_p and penalties: all that the server has, or none if no key asks for any.

    With one of them the others are sent as well, if they do nothing too: servers have defaults of their own.

    Args:
        kind: the server, as `ServerIdentity` has it.
        decoding: what is asked for.

    Raises:
        UserError: the server is not known to have a field that is needed.
    """
    is_drawn = decoding.temperature > 0
    wanted: dict[str, float] = {}
    if is_drawn:
        wanted |= {"top_k": decoding.top_k} if decoding.top_k else {}
        wanted |= {"min_p": decoding.min_p} if decoding.min_p else {}
    if decoding.penalizes and decoding.repetition_penalty != 1:
        wanted["repetition_penalty"] = decoding.repetition_penalty
    if not wanted and not decoding.penalizes:
        return {}
    fields: dict[str, float] = {}
    if decoding.penalizes:
        fields |= {"presence_penalty": decoding.presence_penalty, "frequency_penalty": decoding.frequency_penalty}
    names = _KNOWN.get(kind)
    if names is None:
        for key, value in wanted.items():
            raise UserError(
                f"task.sampling.{key} is not in OpenAI's protocol, and nothing is known of how {kind} takes it: leave "
                f"it out and, if the server has it, add 'engine.extra_body={{{key}: {value}}}'."
            )
        return fields
    if is_drawn:
        fields |= {"top_k": decoding.top_k or names.every_token, "min_p": decoding.min_p}
    fields[names.repetition_penalty] = decoding.repetition_penalty if decoding.penalizes else 1.0
    if names.penalty_last_n is not None:
        whole = decoding.penalty_last_n < 0
        fields[names.penalty_last_n] = names.whole_window if whole else decoding.penalty_last_n
    elif decoding.penalizes and decoding.penalty_last_n not in _WINDOWS:
        raise UserError(
            f"task.sampling.penalty_last_n={decoding.penalty_last_n}: the penalties of {kind} have no window; leave it "
            "out."
        )
    return fields
