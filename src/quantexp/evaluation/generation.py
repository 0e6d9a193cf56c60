"""The completions of a job: looked up where they exist, generated where not, each stored the moment it is finished."""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from quantexp.engines import Completion, Decoding, Engine, Prompt
from quantexp.store import CompletionStore
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

AnyPrompt = TypeVar("AnyPrompt", bound=Prompt)


@dataclass(frozen=True, slots=True)
class Generated:
    """Result of `generate`.

    Attributes:
        completions: one a prompt, in the prompts' order, up to the last that was needed.
        new: how many of them were generated now.
        reused: how many prompts were answered by a completion that was in the store, or by one generated for another
            prompt with the same tokens.
        earlier: how many were answered by a completion that was in the store before a certain time, as far as is known.
    """

    completions: tuple[Completion, ...]
    new: int
    reused: int
    earlier: int = 0


def generate(
    engine: Engine,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    store: CompletionStore,
    about: Mapping[str, str],
    **options: Any,
) -> Generated:
    """Generate a completion for each prompt; the store, and all after it, as for `complete_missing`."""
    return complete_missing(
        prompts,
        lambda prompt: engine.key(prompt, decoding),
        lambda missing: engine.complete(missing, decoding),
        *(store, about),
        **options,
    )


def complete_missing(
    prompts: Sequence[AnyPrompt],
    key_of: Callable[[AnyPrompt], bytes],
    complete: Callable[[Iterable[AnyPrompt]], Generator[tuple[AnyPrompt, Completion], None, None]],
    store: CompletionStore,
    about: Mapping[str, str],
    *,
    reuse: bool = True,
    advance: Callable[[int], None] = lambda _: None,
    enough: Callable[[AnyPrompt, Completion], bool] | None = None,
    before: float | None = None,
) -> Generated:
    """Look up the completion of each prompt, and have those made that are missing.

    Args:
        prompts: in any order; two with the same key are completed once.
        key_of: returns the key under which a prompt's completion is stored.
        complete: makes the completions of prompts, in any order.
        store: where completions are looked up, and added one by one.
        about: what a person should read beside a stored completion, such as the model's name.
        reuse: whether to take what the store has.
        advance: called with the number of prompts that have just been answered.
        enough: asked once about each answer, in the prompts' order, whether those after it are needed no more; None
            for all. Where the answers end depends on this order alone, not on the one in which they were finished.
        before: the time, in seconds since 1970, before which completions are `earlier` ones; None for no time. One of
            which the store does not know the time is earlier too.
    """
    keys = [key_of(prompt) for prompt in prompts]
    found: dict[bytes, Completion] = {}
    earlier: set[bytes] = set()
    if reuse:
        found = store.lookup(keys)
        if before is not None:
            earlier = {key for key, each in found.items() if each.created is None or each.created < before}
    missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in found}
    prompts_of = Counter(keys)
    advance(sum(count for key, count in prompts_of.items() if key in found))
    # By the prompt that was asked: an engine answers in any order.
    asked = {(prompt.item_id, prompt.sample): key for key, prompt in missing.items()}
    answers: list[Completion] = []
    generated: set[bytes] = set()

    def is_settled() -> bool:
        """Return whether all answers are there that are needed."""
        while len(answers) < len(prompts):
            prompt, key = prompts[len(answers)], keys[len(answers)]
            if key not in found:
                return False
            answers.append(found[key])
            if enough is not None and enough(prompt, answers[-1]):
                return True
        return True

    if not is_settled():
        with closing(complete(missing.values())) as completions:
            for prompt, completion in completions:
                key = asked[prompt.item_id, prompt.sample]
                if completion.finish_reason != "context":
                    _keep(store, key, prompt, completion, about)
                found[key] = completion
                generated.add(key)
                advance(prompts_of[key])
                if is_settled():
                    break
    # A run that is recorded as finished must not miss its completions after a power cut.
    store.sync()
    new = len(generated.intersection(keys[: len(answers)]))
    return Generated(tuple(answers), new, len(answers) - new, sum(key in earlier for key in keys[: len(answers)]))


def _keep(store: CompletionStore, key: bytes, prompt: Prompt, completion: Completion, about: Mapping[str, str]) -> None:
    try:
        store.add(key, replace(completion, created=time.time()), {**about, "item": prompt.item_id})
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"The answer to item {one_line(prompt.item_id)} cannot be used and is not kept: {error}; the model's "
            "file or the server that gave it is broken, so mend that and run the same command again."
        ) from error
