"""Measuring on this machine that an answer does not depend on what is generated beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from quantexp.engines.base import Answering, Decoding, Engine, Prompt
from quantexp.store.completion import Completion

PROMPTS = 24
"""Prompts that are tried: more than the default number of lanes on a CPU, so that lanes are refilled."""

TOKENS = 48
"""Tokens written to each. Where rounding differs, answers of small models part after ten to thirty tokens."""


@dataclass(frozen=True, slots=True)
class Exactness:
    """Numbers of answers that were the same, token by token and in every bit of their log-probabilities.

    Attributes:
        compared: answers that were generated again beside others, in another order.
        identical: those of them that came out the same.
    """

    compared: int
    identical: int

    def metrics(self) -> dict[str, float]:
        """As they are recorded."""
        return {"verify.compared": self.compared, "verify.identical": self.identical}


def verify(engine: Engine, prompts: Sequence[Prompt], decoding: Decoding) -> Exactness:
    """Answer some prompts in order, in reverse, and the last few alone, and compare."""
    thinking = decoding.thinking and replace(decoding.thinking, max_tokens=min(decoding.thinking.max_tokens, TOKENS))
    short = replace(decoding, max_tokens=min(decoding.max_tokens, TOKENS), thinking=thinking)
    tried = prompts[:PROMPTS]
    first = _answers(engine, tried, short)
    again = [*_answers(engine, tried[::-1], short).items(), *_answers(engine, tried[-3:], short).items()]
    return Exactness(len(again), sum(first[key] == answer for key, answer in again))


def answer_again(
    engine: Engine, prompts: Sequence[Prompt], decoding: Decoding
) -> tuple[dict[tuple[str, int], Completion], str]:
    """Answer again beside other neighbours, and by another arithmetic if the engine can; and how that was, in words."""
    prompts = prompts[::-1]
    variant = engine.open_variant()
    if variant is None:
        return _answers(engine, prompts, decoding), "in the opposite order"
    try:
        return _answers(variant, prompts, decoding), f"in the opposite order and {variant.words}"
    finally:
        variant.close()


def _answers(engine: Answering, prompts: Sequence[Prompt], decoding: Decoding) -> dict[tuple[str, int], Completion]:
    """Return the answers by item and sample, without the times."""
    return {
        (prompt.item_id, prompt.sample): replace(completion, prompt_seconds=0.0, generation_seconds=0.0)
        for prompt, completion in engine.complete(prompts, decoding)
    }
