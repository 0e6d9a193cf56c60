"""Jobs that end once their verdict is known: where they end, that this is no accident, and who may judge them."""

import re
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from tests.support.variants import mark_slow

from quantexp.engines import Completion, Prompt
from quantexp.evaluation.answers import AnswerReader
from quantexp.evaluation.early_stopping import Stopping, StoppingRule, group_duplicates
from quantexp.evaluation.scoring import AnswerGrading
from quantexp.stats import sequential_decision
from quantexp.tasks import Grade
from quantexp.tasks.items import Item, draw_items
from quantexp.tasks.reasoning import NONE, Output
from quantexp.tracking.reader import JobRecord

Command = Callable[..., tuple[int, str, str]]

QUICK = ("task=triviaqa", "task.limit=20", "task.shots=2", "task.max_tokens=8", "engine.threads=1")
EARLY = ("stats=sequential", "stats.margin=0.25", "stats.confidence=0.6")


def tables_of(folder: Path) -> dict[str, tuple[pd.DataFrame, dict[str, str]]]:
    """The item table and the tags of the newest finished job of each quant."""
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("quantexp")
    assert experiment is not None
    runs = client.search_runs(
        [experiment.experiment_id], "tags.`quantexp.kind` = 'job' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time ASC"],
    )  # fmt: skip
    return {
        run.data.tags["quant"]: (
            pd.read_parquet(client.download_artifacts(run.info.run_id, "items.parquet")),
            run.data.tags,
        )
        for run in runs
    }


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_sweep_ends_each_quant_with_its_verdict_and_says_so(
    command: Command, cache: Path, tmp_path: Path, whole: bool
) -> None:
    arguments = (*QUICK, *EARLY, f"model.cache={cache}")
    status, out, err = command(tmp_path, "quantexp", "-m", "quant=Q8_0,Q4_1", *arguments)
    assert status == 0, err
    tables = tables_of(tmp_path)
    baseline, (short, tags) = tables["Q8_0"][0], tables["Q4_1"]
    assert len(baseline) == 20
    assert len(short) < 20
    assert tags["stopped"] == f"{len(short)} of 20 items (margin 25 points, family of 1)"
    assert f"on the first {len(short)} of 20 bundled items" in err
    assert "its verdict is known" in err
    assert f"Decided early: Q4_1 on triviaqa after {len(short)} of 20 items (" in " ".join(out.split())
    assert "within margin" in out

    # It is the first item after which the evidence is enough, in the order of the draw.
    assert [*short["item_id"]] == [*baseline["item_id"]][: len(short)]
    losses = baseline["score"].to_numpy()[: len(short)] - short["score"].to_numpy()
    decided = sequential_decision(losses, margin=0.25, alpha=0.4, baseline=baseline["score"].to_numpy()[: len(short)])
    assert (decided.verdict, decided.items) == ("within", len(short))

    # Nobody may judge it as if its number of items had been fixed.
    status, _, err = command(tmp_path, "quantexp.aggregate")
    assert status != 0
    assert "only stats=sequential can judge it" in err
    if not whole:
        return
    status, out, _ = command(tmp_path, "quantexp.aggregate", *EARLY)
    assert status == 0
    assert "within margin" in out

    # Again from nothing, one lane beside another number of neighbours: the same table.
    anew = ("force=true", "store.reuse=false", "engine.lanes=3")
    assert command(tmp_path, "quantexp", "-m", "quant=Q8_0,Q4_1", *arguments, *anew)[0] == 0
    pd.testing.assert_frame_equal(tables_of(tmp_path)["Q4_1"][0], short)

    # It is no baseline itself, since it has not answered everything; and without the real one in the command, the run
    # that is there takes part.
    other = command(tmp_path, "quantexp", "quant=Q3_K_M", "stats.baseline=Q4_1", *arguments)
    assert "run it first" in other[2]
    status, out, err = command(tmp_path, "quantexp", "-m", "quant=Q4_1,Q3_K_M", *arguments)
    assert status == 0, err
    assert "nothing will be compared" not in err
    assert "the baseline" in out

    # With a fixed number, the same command goes on to the end.
    status, _, err = command(tmp_path, "quantexp", "-m", "quant=Q8_0,Q4_1", *QUICK, f"model.cache={cache}")
    assert status == 0
    assert len(tables_of(tmp_path)["Q4_1"][0]) == 20
    assert "finished before" in err  # the baseline
    reused = re.search(r"(\d+) of 20 completions from the store", err)
    assert reused is not None
    assert len(short) <= int(reused[1]) < 20


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    mark_slow(
        [
            (("quant=Q4_1,Q8_0",), "put it first in quant="),
            (("quant=Q8_0,Q4_1", "seed=0,1"), "stats=sequential takes one seed"),
            (("quant=Q8_0,Q4_1", "stats.margin=0.1,0.2"), "stats must be the same for all jobs of a sweep"),
            (("quant=Q8_0,Q4_1", "stats.unit=answer"), "leave stats.unit at item"),
            (("quant=Q8_0,Q4_1", "stats.target=items"), "leave stats.target at population"),
            (("quant=Q8_0,Q4_1", "hypothesis=quant-cliff"), "use stats=default, or hypothesis=none"),
        ],
        after=2,
    ),
)
def test_a_rule_that_would_not_hold_is_refused(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    status, _, err = command(tmp_path, "quantexp", "-m", *QUICK, *EARLY, *arguments)
    assert status == 2
    assert sentence in err
    assert "Traceback" not in err


def test_without_the_baseline_a_job_says_what_to_run_first(command: Command, cache: Path, tmp_path: Path) -> None:
    status, _, err = command(tmp_path, "quantexp", "quant=Q4_1", *QUICK, *EARLY, f"model.cache={cache}")
    assert status == 2
    assert "has no finished run: run it first" in err


def record_of(scores: dict[str, float]) -> JobRecord:
    return JobRecord("run", "Q8_0 triviaqa seed 0", 0, {"job.sha256": "x"}, {}, {}, {}, pd.Series(scores))


def test_items_that_ask_the_same_count_once_and_only_when_all_are_answered() -> None:
    names = ["a", "b", "c", "d", "e"]
    clusters = {"a": "x", "b": "y", "c": "x", "d": "z", "e": "y"}
    items = group_duplicates([Item(name, {}, None, clusters[name]) for name in names])
    assert [item.id for item in items] == ["a", "c", "b", "e", "d"]
    backwards = group_duplicates([Item(name, {}, None, clusters[name]) for name in reversed(names)])
    assert [item.id for item in backwards] == ["d", "e", "b", "c", "a"]

    items = (*items, *(Item(name, {}, None, name) for name in "fgh"))
    asked = [Prompt(item.id, "", (), 0, sample) for item in items for sample in (0, 1)]
    of_baseline = dict.fromkeys([*names, *"fgh"], 1.0) | {"d": float("nan")}
    rule = StoppingRule(record_of(of_baseline), margin=0.5, alpha=0.5, family=1)
    scores = iter([1.0, 1.0, 1.0, 0.0] + [1.0] * 12)
    grading = AnswerGrading(AnswerReader(NONE), lambda *_: Grade(next(scores), "read"), items, lambda *_: Output(""))
    stopping = Stopping(rule, asked, items, grading)
    seen = [stopping(prompt, Completion((), (), "", "stop", 0, 0)) for prompt in asked]
    expected = sequential_decision([0.25, 0.0, 0.0, 0.0, 0.0], margin=0.5, alpha=0.5, baseline=[1.0] * 5)
    ends = {3: 1, 7: 2, 11: 3, 13: 4, 15: 5}  # of clusters; d does not count
    assert expected.verdict == "within"
    assert expected.items == ends[seen.index(True)]


def test_questions_with_many_copies_do_not_come_first() -> None:
    # Of 40 questions, half have five copies. Where the place is that of the first copy drawn, they lead.
    items = [Item(f"{n}-{copy}", {}, None, str(n)) for n in range(40) for copy in range(5 if n < 20 else 1)]
    leading = 0
    for seed in range(200):
        leading += int(group_duplicates(draw_items(items, seed, None))[0].cluster) < 20
    assert 70 <= leading <= 130


def test_an_item_that_was_not_asked_is_no_evidence() -> None:
    rule = StoppingRule(record_of({"a": 1.0, "b": 1.0}), margin=0.9, alpha=0.5, family=1)
    asked = [Prompt(name, "", (), 0) for name in ("a", "b")]
    items = [Item(name, {}, None, name) for name in ("a", "b")]
    grading = AnswerGrading(AnswerReader(NONE), lambda *_: Grade(1.0, "read"), items, lambda *_: Output(""))
    stopping = Stopping(rule, asked, items, grading)
    ended = [stopping(each, Completion((), (), "", "context", 0, 0)) for each in asked]
    assert not any(ended)
