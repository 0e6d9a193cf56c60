"""The embedder: its threshold, its measurement, and what it is refused for."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from quantexp.config.choices import Pooling
from quantexp.config.grading import EmbedderConfig
from quantexp.evaluation.embedding import TextEmbedder
from quantexp.evaluation.resources import ResourceSettings, open_grader
from quantexp.models import ModelFile
from quantexp.stats import agreement
from quantexp.tasks import get_task
from quantexp.tasks.graders.base import Answer
from quantexp.tasks.graders.calibration import load_pairs
from quantexp.util.errors import UserError

PAIRS = load_pairs("requested_action")
GRADER = get_task("extraction").grader("requested-action-embedding")
GOLD = {"requested_action": "Refund the €20."}


def embed_by_label(texts: list[str]) -> NDArray[np.float64]:
    """Vectors of the same direction for texts that are the same request, but for one pair in ten."""
    directions: dict[str, int] = {}
    for number, pair in enumerate(PAIRS):
        first = directions.setdefault(pair.first, 2 * number)
        directions.setdefault(pair.second, first if pair.label != (number % 10 == 0) else 2 * number + 1)
    vectors = np.zeros((len(texts), 2 * len(PAIRS)))
    for row, text in enumerate(texts):
        vectors[row, directions[text]] = 1
    return vectors


def test_the_threshold_is_chosen_on_one_half_and_measured_on_the_other() -> None:
    embedder = TextEmbedder("by label", "sha256 0", embed_by_label, 0.4)  # type: ignore[arg-type]
    found = embedder.measure("requested_action")
    halves = [[pair for pair in PAIRS if pair.is_for_choosing == half] for half in (True, False)]
    assert (found.chosen_on, found.agreement.n) == tuple(map(len, halves))
    assert found.threshold == 0.5
    right = [pair.label != (number % 10 == 0) for number, pair in enumerate(PAIRS) if not pair.is_for_choosing]
    assert found.agreement == agreement(right, [pair.label for pair in halves[1]])
    embedder.calibrate("requested_action")
    first, second = PAIRS[1].first, PAIRS[1].second
    assert embedder.compare("requested_action", [(first, first), (first, second)]) == [
        (1.0, True),
        (float(PAIRS[1].label), PAIRS[1].label),
    ]


def test_a_gguf_embeds_and_one_that_is_no_embedder_agrees_too_little(small: Path) -> None:
    config = EmbedderConfig("gguf", str(small), Pooling.mean)
    with pytest.raises(UserError, match=r"kappa is -?0\.\d\d \[.*embedder.agreement=0.4 is the least"):
        open_grader(GRADER, ResourceSettings("a job", embedder=config)).__enter__()
    config.agreement = -1
    with open_grader(GRADER, ResourceSettings("a job", embedder=config)) as opened:
        same, other, unread = (
            opened.grade(Answer(text), GOLD)
            for text in ('{"requested_action": "refund the €20"}', '{"requested_action": "No."}', "No.")
        )
    assert (same.score, same.fields) == (1, {"similarity": 1})
    assert 0 <= other.fields["similarity"] < 1
    assert unread.error is not None
    sha256 = hashlib.sha256(small.read_bytes()).hexdigest()
    assert f"(sha256 {sha256[:16]}, pooling mean, context 512)" in opened.facts["grading.embedder"]


def test_a_file_that_does_not_say_how_it_pools_is_refused(q8_0: ModelFile) -> None:
    with (
        pytest.raises(UserError, match=r"set embedder\.pooling=mean, cls or last"),
        open_grader(GRADER, ResourceSettings("a job", embedder=EmbedderConfig("gguf", q8_0.path))),
    ):
        pass


def test_an_embedder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    for config, problem in (
        (
            EmbedderConfig(),
            "The grader needs an embedder: add embedder=sentence-transformers",
        ),
        (
            EmbedderConfig("sentence-transformers", str(tmp_path / "no")),
            "is no folder of a sentence-transformers model",
        ),
    ):
        with (
            pytest.raises(UserError, match=problem),
            open_grader(GRADER, ResourceSettings("a job", embedder=config)),
        ):
            pass
