"""The way in which answers are chosen, as runs that are compared have it in common."""

import pytest

from quantexp.config import PromptConfig, SamplingConfig, TaskConfig
from quantexp.evaluation.job_identity import _describe_decoding

DRAWN = {"temperature": 0.7, "samples": 4}


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        ({}, "greedy"),
        ({"top_k": 20, "penalty_last_n": 5}, "greedy"),
        ({"presence_penalty": 1.0, "penalty_last_n": 0}, "greedy"),
        ({"repetition_penalty": 1.1}, "greedy, repetition_penalty 1.1 over the last 64 tokens"),
        (DRAWN, "temperature 0.7, top_p 1.0, min_p 0.0, 4 samples an item, seed 0"),
        (DRAWN | {"top_k": 20}, "temperature 0.7, top_p 1.0, min_p 0.0, 4 samples an item, seed 0, top_k 20"),
        (
            {"presence_penalty": 1.5, "frequency_penalty": 0.5, "penalty_last_n": -1},
            "greedy, presence_penalty 1.5, frequency_penalty 0.5 over all tokens",
        ),
    ],
)
def test_what_does_nothing_leaves_the_words_of_earlier_versions(sampling: dict[str, float], words: str) -> None:
    task = TaskConfig("t", prompt=PromptConfig(1, "", ""), sampling=SamplingConfig(**sampling))  # type: ignore[arg-type]
    assert _describe_decoding(task) == words
