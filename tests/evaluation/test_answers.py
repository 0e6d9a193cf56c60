"""Answers: read by a recorded reader, graded once by a grader that is open as long as it grades."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from quantexp.config import (
    Config,
    DataConfig,
    EngineConfig,
    ModelConfig,
    PromptConfig,
    QuantConfig,
    StatsConfig,
    TaskConfig,
    TrackingConfig,
)
from quantexp.config.choices import Method
from quantexp.config.identity import NO_READER
from quantexp.engines import close_engine
from quantexp.evaluation import resources
from quantexp.evaluation.answers import AnswerReader, find_reader
from quantexp.evaluation.job import run_job
from quantexp.regrade import Grading
from quantexp.store import CompletionStore
from quantexp.tasks.graders.base import Answer
from quantexp.tasks.reasoning import NONE, Output
from quantexp.tracking.store import Store
from quantexp.util.errors import UserError

TASK = """
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from quantexp.tasks import Grade, Grader, Task

LOG = Path(__file__).with_name("log.txt")


def note(line):
    with LOG.open("a") as file:
        print(line, file=file)


def grade(output, fields):
    note("grade " + fields["question"])
    return Grade(1.0, output)


class Open(Grader):
    @contextmanager
    def open(self, resources):
        with super().open(resources) as grade:
            note("open")
            yield grade
            note("close")


TASK = Task(
    name="noted",
    asks="question",
    required_fields=("question",),
    target=lambda fields: "x",
    check=lambda fields: None,
    graders={
        "noted": Open("noted", 1, "always right", grade),
        "judged": Open("judged", 1, "needs what is not there", grade, needs=frozenset({"judge", "sandbox"})),
    },
    default_grader="noted",
)
"""


@pytest.fixture
def config(demo: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    """A job on a task of one's own, whose grader notes what it does in log.txt."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "noted_task.py").write_text(TASK)
    (tmp_path / "items.csv").write_text("question\n" + "".join(f"Is it {n}?\n" for n in range(8)))
    words = PromptConfig(version=1, instructions="Answer.", item="Question: {question}")
    yield Config(
        model=demo,
        quant=QuantConfig("Q8_0", "MOSTLY_Q8_0"),
        task=TaskConfig(name="noted", module="noted_task", prompt=words, grader="noted", max_tokens=2),
        data=DataConfig("files", "files", path=str(tmp_path / "items.csv")),
        engine=EngineConfig("llama_cpp", context=512, threads=1, lanes=4),
        tracking=TrackingConfig(str(tmp_path / "mlruns")),
        stats=StatsConfig(method=Method.sequential, margin=0.4, confidence=0.5),
    )
    sys.modules.pop("noted_task", None)
    close_engine()


def log_of(folder: Path) -> list[str]:
    """What the grader has noted since the last look."""
    lines = (folder / "log.txt").read_text().splitlines()
    (folder / "log.txt").unlink()
    return lines


def test_an_answer_is_graded_once_also_while_a_job_may_end_early(config: Config, tmp_path: Path) -> None:
    store = Store(config.tracking)
    with CompletionStore(tmp_path / "completions") as known:
        run_job(config, store, known, None)
        lines = log_of(tmp_path)
        assert (lines[0], lines[-1]) == ("open", "close")
        assert sorted(lines[1:-1]) == [f"grade Is it {n}?" for n in range(8)]
        other = dataclasses.replace(config, quant=QuantConfig("Q3_K_M", "MOSTLY_Q3_K_M"))
        run_job(other, store, known, None)
    lines = log_of(tmp_path)
    assert (lines[0], lines[-1]) == ("open", "close")
    graded = lines[1:-1]
    assert 0 < len(graded) < 8, "it has ended early"
    assert len(set(graded)) == len(graded)
    run = store.client.search_runs([store.experiment], order_by=["attributes.start_time DESC"])[0]
    assert json.loads(run.data.tags["identity.reader"]) == {"id": "none-v1"}
    table = pd.read_parquet(store.client.download_artifacts(run.info.run_id, "items.parquet"))
    assert len(table) == len(graded)

    [record], _ = store.jobs([run.info.run_id])
    assert Grading(store, config.stats).grade(record, None) is None, "it was read and graded like this already"
    newer = dataclasses.replace(record, identity={**record.identity, "reader": {"id": "dream-v3"}})
    with pytest.raises(UserError, match="its answers were read by dream-v3, which this version of quantexp does not"):
        Grading(store, config.stats).grade(newer, None)


def test_a_grader_without_what_it_needs_is_refused_in_one_sentence(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "OPENERS", {})
    judged = dataclasses.replace(config, task=dataclasses.replace(config.task, grader="judged"))
    store = Store(config.tracking)
    with (
        CompletionStore(tmp_path / "completions") as known,
        pytest.raises(UserError, match=r"The grader judged needs what .* cannot give it \(judge, sandbox\); choose"),
    ):
        run_job(judged, store, known, None)
    assert not (tmp_path / "log.txt").exists()


def test_the_reader_of_runs_that_record_none_takes_the_whole_output() -> None:
    reader = find_reader(NO_READER)
    assert reader == AnswerReader(NONE)
    assert reader.id == NO_READER
    text = " <think>a</think> b\n"
    assert reader.read(Output(text), True) == Answer(text, is_cut=True, reasoning_tokens=0)
