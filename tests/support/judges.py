"""Stand-in judges: a server that knows the labels of the bundled pairs, and errs where a test wants it to."""

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.support.openai_server import Asked, OpenAIServer, Reply, chat, models, of_item, probing

from quantexp.config.grading import JudgeConfig
from quantexp.evaluation import judging
from quantexp.tasks.graders.calibration import load_pairs
from quantexp.tasks.graders.rubrics import SAME_REQUEST, SAYS_FACT, Rubric

RUBRICS = (SAME_REQUEST, SAYS_FACT)


def labels_of(rubric: Rubric) -> dict[tuple[str, str], bool]:
    """The labels of a rubric's bundled pairs, by the two texts."""
    return {(pair.first, pair.second): pair.label for pair in load_pairs(rubric.calibration)}


def find_texts(rubric: Rubric, question: str) -> tuple[tuple[str, str], bool] | None:
    """The two texts that a question asks about, and whether it asks in the other order; None for another rubric."""
    if not question.startswith(rubric.instructions):
        return None
    heads = (rubric.first or "Text 1", rubric.second or "Text 2")
    is_swapped = question.endswith(f"{rubric.no} or {rubric.yes}.")
    if rubric.first and is_swapped:
        heads = heads[::-1]
    found = re.search(rf"\n\n{heads[0]}:\n(.*)\n\n{heads[1]}:\n(.*)\n\nAnswer with one word", question, re.DOTALL)
    assert found is not None, question
    texts = (found[1], found[2])
    return (texts[::-1] if is_swapped else texts), is_swapped


def measure_by_few(monkeypatch: pytest.MonkeyPatch, count: int = 40) -> None:
    """Measure judges by the first pairs alone, where a test is about something else."""
    monkeypatch.setattr(judging, "load_pairs", lambda name: load_pairs(name)[:count])


def judge_of(address: str, name: str = "a-judge", **keys: Any) -> JudgeConfig:
    """The configuration of a judge behind a server."""
    return JudgeConfig("server", {"source": "server", "name": name}, {"name": "openai", "url": address}, **keys)


def answer_as_judge(
    noise: float = 0.0,
    position: float = 0.0,
    known: Mapping[tuple[str, str], bool] | None = None,
    say: Callable[[Rubric, bool], str] = lambda rubric, label: rubric.yes if label else rubric.no,
) -> Callable[[Asked], Reply]:
    """Answer as a judge that knows the labels of the bundled pairs.

    Args:
        noise: share of the bundled pairs on which it errs, whatever their order.
        position: share of pairs on which it says no in the other order.
        known: labels of other pairs; what it does not know is no.
        say: its reply in words.
    """
    labels = {rubric: {**labels_of(rubric), **(known or {})} for rubric in RUBRICS}

    def answer(asked: Asked) -> Reply:
        if probing(asked):
            return chat("2")
        for rubric in RUBRICS:
            if (found := find_texts(rubric, of_item(asked))) is not None:
                texts, is_swapped = found
                drawn = [hashlib.sha256(f"{kind}{texts}".encode()).digest()[0] / 256 for kind in ("noise", "position")]
                errs = texts not in (known or {}) and drawn[0] < noise
                label = labels[rubric].get(texts, False) != errs
                return chat(say(rubric, label and not (is_swapped and drawn[1] < position)))
        raise AssertionError(of_item(asked))

    return answer


def serve_judge(name: str = "a-judge", **behaviour: Any) -> OpenAIServer:
    """Serve a judge; `behaviour` is that of `answer_as_judge`."""
    return OpenAIServer(answer_as_judge(**behaviour), pages=models(name))
