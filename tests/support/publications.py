"""Published runs made up for tests."""

import hashlib
from collections.abc import Sequence

from quantexp.comparison import publication as published
from quantexp.comparison.publication import Job, Publication, make_publication
from quantexp.stats import estimate


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def make_job(
    scores: Sequence[float],
    outputs: Sequence[str] | None = None,
    prompts: Sequence[str] | None = None,
    build: str = "b",
    grader: str = "g-v1",
) -> Job:
    """Make a run of items i0, i1, ... with these scores; its outputs are all the same unless they are given."""
    n = len(scores)
    return Job(
        model="m",
        condition="Q4_K_M",
        task="t",
        seed=0,
        settings={"task": {"name": "t"}, "engine": {"name": "llama_cpp"}},
        chat_template=None,
        stopped=None,
        date="2026-03-01T12:00:00+00:00",
        file=published.ModelFile(
            name="m.gguf", sha256="f" * 64, bytes=1, bits_per_weight=4.5, types=None, imatrix=None
        ),
        identity={"grader": {"id": grader}, "settings": {"library": "l", "gpu_layers": "0"}},
        software=published.Software(quantexp="0", commit="c", library="l", build=build, revision="1", python="3"),
        machine=published.Machine(system="Linux", processor="p", extensions="e", features="f"),
        prompt_tokens=n,
        completion_tokens=n,
        answers=published.Answers(
            item=tuple(f"i{number}" for number in range(n)),
            sample=(0,) * n,
            cluster=tuple(f"i{number}" for number in range(n)),
            prompt=tuple(map(_hash, prompts or ["question"] * n)),
            completion=tuple(map(_hash, outputs or [chr(97 + number % 26) for number in range(n)])),
            score=tuple(float(score) for score in scores),
        ),
    )


def publish(job: Job) -> Publication:
    """Make the file of one run."""
    found = estimate([score or 0.0 for score in job.answers.score])
    score = published.Score(
        mean=found.mean, low=found.low, high=found.high, n=found.n, answers=found.answers, confidence=0.95,
        interval=found.interval_method,
    )  # fmt: skip
    condition = published.Condition(
        model=job.model, task=job.task, condition=job.condition, items=found.n, repeats=1, grader="g-v1",
        bits_per_weight=4.5, file_bytes=1, tokens_per_second=None, score=score, loss=None,
    )  # fmt: skip
    return make_publication(
        title="title",
        baseline="Q8_0",
        command=None,
        stats={},
        protocol={},
        notes=(),
        conditions=(condition,),
        jobs=(job,),
    )
