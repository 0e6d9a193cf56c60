"""Answers on their way into the store of completions."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quantexp.engines import Completion, Decoding, Prompt
from quantexp.evaluation.generation import generate
from quantexp.store import CompletionStore
from quantexp.util.errors import UserError


class Server:
    """An engine whose answers say what a test lets them say."""

    def __init__(self, **says: Any) -> None:
        self._says = says

    def key(self, prompt: Prompt, _: Decoding) -> bytes:
        return prompt.item_id.encode().ljust(32, b".")

    def complete(self, prompts: Any, _: Decoding) -> Iterator[tuple[Prompt, Completion]]:
        for prompt in prompts:
            yield prompt, replace(Completion((), (), "yes", "stop", 0, 0), **self._says)


@pytest.mark.parametrize(
    "says",
    [
        *({"counted": counted} for counted in ((10**40, 1), (3, -1), (3, True), (3, 2**31))),
        *({"counted": (3, 1), "logprobs": (value,)} for value in (float("nan"), 1.5, float("inf"))),
    ],
)
def test_an_answer_that_no_table_could_hold_is_told_and_not_kept(tmp_path: Path, says: dict[str, Any]) -> None:
    prompts = [Prompt("item 1", "Is it?", (), 0)]
    with CompletionStore(tmp_path) as store:
        broken: Any = Server(**says)
        with pytest.raises(
            UserError, match=r"^The answer to item item 1 cannot be used and is not kept: a .*; the model"
        ):
            generate(broken, prompts, Decoding(1), store, {})
        mended: Any = Server(counted=(3, 1))
        assert generate(mended, prompts, Decoding(1), store, {}).new == 1
        assert generate(broken, prompts, Decoding(1), store, {}).reused == 1
