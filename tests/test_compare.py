"""`python -m quantexp.compare`, on files that other tools have written."""

import csv
import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import numpy as np
import pandas as pd
import pytest
from tests.support.published import ITEMS, PUBLISHED, SEEDS, WITH_TIES, N, format_p, published_answers

from quantexp.comparison.results.words import rewrite_words
from quantexp.config import CompareConfig

DATA = Path(__file__).parent / "comparison" / "results" / "data"
BASE, Q4, ONE_SHOT = (str(DATA / "lm_eval" / name) for name in ("base", "q4", "q4-one-shot"))


class Ended(NamedTuple):
    """What a command said and wrote."""

    status: int
    out: str
    err: str
    comparisons: list[dict[str, str]]
    report: str


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """An empty folder to run commands in."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture
def compare(here: Path, command: Callable[..., tuple[int, str, str]]) -> Callable[..., Ended]:
    def run(*words: str) -> Ended:
        status, out, err = command(here, "quantexp.compare", *words, files=here.parent)
        folder = here / "compare"
        rows = read_csv(folder / "comparisons.csv") if folder.is_dir() else []
        report = (folder / "report.md").read_text() if folder.is_dir() else ""
        return Ended(status, out, err, rows, report)

    return run


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def write(path: Path, scores: Mapping[Any, Any], **columns: Sequence[Any]) -> str:
    pd.DataFrame({"id": list(scores), "score": list(scores.values()), **columns}).to_csv(path, index=False)
    return str(path)


def test_two_folders_of_a_harness(compare: Callable[..., Ended], here: Path) -> None:
    ended = compare(BASE, Q4)
    assert ended.status == 0, ended.err
    assert ended.err == ""
    by_task = {row["task"]: row for row in ended.comparisons}
    words, sums = by_task["common_words"], by_task["shelf_sums"]
    assert (words["baseline"], words["quant"], words["n"], words["lost"], words["gained"]) == (
        "base",
        "q4",
        "10",
        "5",
        "2",
    )
    assert float(words["difference"]) == pytest.approx(0.3)
    # Two of the 21 items ask the same: they count once.
    assert (sums["n"], sums["answers"], sums["answers_lost"]) == ("20", "21", "12")
    assert "common_words, shelf_sums: items are paired by the hash of the document." in ended.report
    first = "shelf_sums: the filter is strict-match, the first there is; filter=flexible-extract takes another."
    assert first in ended.report
    assert "bits" not in ended.report
    page = (here / "compare" / "report.html").read_text()
    assert "How many books are on it?" in page
    assert "There are 27 and 43. The answer is" in page
    assert sorted(path.name for path in (here / "compare").iterdir()) == [
        *("comparisons.csv", "conditions.csv", "differences.png", "differences.svg"),
        *("flips.parquet", "report.html", "report.md"),
    ]
    flips = pd.read_parquet(here / "compare" / "flips.parquet")
    assert flips["baseline_output"].str.contains("The answer is").any()
    assert "<code>flips.parquet</code> beside this page." in page
    assert sorted(path.name for path in here.iterdir()) == ["compare"]


def test_names_margin_metric_filter_and_folder(here: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    words = (f"full={BASE}", f"4 bit={Q4}", "margin=0.7", "metric=acc_norm", "filter=flexible-extract", "out=there")
    status, out, err = command(here, "quantexp.compare", *words, files=here.parent)
    assert status == 0, err
    rows = {row["task"]: row for row in read_csv(here / "there" / "comparisons.csv")}
    assert {row["baseline"] for row in rows.values()} == {"full"}
    assert {row["quant"] for row in rows.values()} == {"4 bit"}
    assert {row["margin"] for row in rows.values()} == {"0.7"}
    graders = {row["grader"] for row in read_csv(here / "there" / "conditions.csv")}
    assert graders == {"acc_norm", "exact_match (flexible-extract)"}
    assert "report  there/report.html" in out


def test_other_examples_are_refused_by_name_and_the_rest_is_compared(compare: Callable[..., Ended]) -> None:
    ended = compare(BASE, ONE_SHOT, Q4)
    assert ended.status == 1
    assert {row["quant"] for row in ended.comparisons} == {"q4"}
    told = " ".join(ended.out.split())
    assert (
        "q4-one-shot on shelf_sums is not compared with base: the number of few-shot examples is 1 and not 0; the "
        "prompt differs on 20 of 20 items." in told
    )
    assert "Incomplete: 2 runs not paired." in told


def test_another_version_of_a_task_is_refused(compare: Callable[..., Ended], here: Path) -> None:
    copy = shutil.copytree(Q4, here / "other")
    [path] = copy.rglob("results_*.json")
    content = json.loads(path.read_text())
    content["versions"]["common_words"] = 3.0
    path.write_text(json.dumps(content))
    ended = compare(BASE, str(copy))
    assert ended.status == 1
    assert [row["task"] for row in ended.comparisons] == ["shelf_sums"]
    assert "other on common_words is not compared with base: the task version is 3.0 and not 2.0." in ended.report


def test_documents_that_are_written_otherwise_are_paired_by_their_prompts(
    compare: Callable[..., Ended], here: Path
) -> None:
    copy = shutil.copytree(Q4, here / "other")
    for path in copy.rglob("samples_*"):
        path.write_text(path.read_text().replace('"doc_hash": "', '"doc_hash": "f'))
    ended = compare(BASE, str(copy))
    assert ended.status == 0, ended.err
    assert "common_words, shelf_sums: items are paired by the prompt." in ended.report
    assert {(row["task"], row["n"]) for row in ended.comparisons} == {("common_words", "10"), ("shelf_sums", "20")}


def test_missing_items_and_tasks_are_told_and_the_rest_is_compared(compare: Callable[..., Ended], here: Path) -> None:
    copy = shutil.copytree(Q4, here / "other")
    [path] = copy.rglob("samples_common_words_*")
    path.unlink()
    [path] = copy.rglob("samples_shelf_sums_*")
    path.write_text("".join(line for line in path.read_text().splitlines(True) if json.loads(line)["doc_id"] >= 5))
    ended = compare(BASE, str(copy))
    assert ended.status == 0, ended.err
    [row] = ended.comparisons
    assert (row["task"], row["n"], row["answers"]) == ("shelf_sums", "16", "16")
    assert "Only base has results of common_words, which are not compared." in ended.report
    assert "which are not all: other on shelf_sums on 16 of 21." in ended.report
    assert "1 items are in other more or less often than in base" in ended.report


def test_the_published_counts_give_the_published_table(compare: Callable[..., Ended], here: Path) -> None:
    answers = published_answers()
    paths = []
    for quant in ("Q8_0", "Q5_K_M", "Q4_K_M", "Q3_K_M"):
        rows = [
            {"task": task, "item": f"i{item:03}", "seed": seed, "correct": bool(of[quant][SEEDS * item + seed])}
            for task, of in answers.items()
            for item in range(ITEMS)
            for seed in range(SEEDS)
        ]
        paths.append(str(here / f"{quant}.csv"))
        pd.DataFrame(rows).to_csv(paths[-1], index=False)
    ended = compare(*paths, "stats=published")
    assert ended.status == 0, ended.err
    found = {(row["task"], row["quant"]): row for row in ended.comparisons}
    for cell in PUBLISHED:
        row = found[cell.task, cell.quant]
        assert (row["n"], row["answers_lost"], row["answers_gained"]) == (str(N), str(cell.b), str(cell.c))
        assert (f"{float(row['low']):.3f}", f"{float(row['high']):.3f}") == (cell.low, cell.high)
        assert format_p(float(row["p_value"])) == WITH_TIES.get((cell.task, cell.quant), cell.p)
    # By default an item counts once, whatever the number of its seeds.
    ended = compare(*paths)
    assert {row["n"] for row in ended.comparisons} == {str(ITEMS)}
    assert {row["verdict"] for row in ended.comparisons} >= {"inconclusive"}


def test_several_answers_to_an_item_count_once(compare: Callable[..., Ended], here: Path) -> None:
    rng = np.random.default_rng(0)
    paths = []
    for name in ("base", "q4"):
        rows = [{"id": n, "epoch": e, "score": int(rng.random() < 0.7)} for n in range(30) for e in range(4)]
        paths.append(str(here / f"{name}.csv"))
        pd.DataFrame(rows).to_csv(paths[-1], index=False)
    ended = compare(*paths)
    [row] = ended.comparisons
    assert (row["n"], row["kind"]) == ("30", "graded")
    means = [pd.read_csv(path).groupby("id")["score"].mean() for path in paths]
    assert float(row["difference"]) == pytest.approx((means[0] - means[1]).mean())
    assert "pass@k" in ended.report


def test_what_was_paired_by_and_what_was_guessed_is_told(compare: Callable[..., Ended], here: Path) -> None:
    base = write(here / "base.csv", {1: 1, 2: 0, 3: 1}, question=["a", "b", "c"])
    other = pd.DataFrame({"query": ["c", "b", "a"], "acc": [True, False, False], "response": ["x", "y", "z"]})
    other.to_parquet(here / "q4.parquet")
    ended = compare(base, str(here / "q4.parquet"))
    [row] = ended.comparisons
    assert (row["n"], row["lost"], row["gained"]) == ("3", "1", "0")
    assert "items: items are paired by the question." in ended.report
    assert "items: the score is column acc, the question is column query (q4)." in ended.report
    assert "the column of the scores is score in base and acc in q4." in ended.report


def test_a_table_beside_the_log_of_a_harness(compare: Callable[..., Ended], here: Path) -> None:
    [path] = Path(BASE).rglob("samples_common_words_*")
    table = write(here / "mine.csv", {n: int(n != 4) for n in range(10)})
    ended = compare(str(path), table)
    [row] = ended.comparisons
    assert (row["task"], row["quant"], row["n"]) == ("common_words", "mine", "10")
    assert "base is from lm-evaluation-harness (acc) and mine from a table (score), so that" in ended.report.replace(
        "shelf-base", "base"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("a.csv",),
            "Name a baseline and another file or folder of results at least: ",
        ),
        (
            (),
            "Name a baseline and another file or folder of results at least: ",
        ),
        (("a.csv", "./a.csv"), "./a.csv is given twice; compare with another file."),
        (("a.csv", "copy.csv"), "a and copy are the same results; compare with another file."),
        (
            ("a.csv", "b.csv", "margn=0.3"),
            "margn=0.3: there is neither a file 0.3 nor a key margn; did you mean ",
        ),
        (("a.csv", "gone.csv"), "gone.csv: there is no such file or folder; paths are relative to {folder}."),
        (("x=a.csv", "x=b.csv"), "Two results are called x; name them apart, as NAME=PATH."),
        (
            ("a.csv", "b.csv", "stats=sequential"),
            "stats=sequential judges items in the random order in which they ",
        ),
        (
            ("a.csv", "b.csv", "stats.target=items"),
            "stats.target=items needs the number of items in the data of items",
        ),
        (("a.csv", "b.csv", "stats.baseline=c"), "stats.baseline=c: no results are called so; choose one of a, b."),
        (
            ("a.csv", "tasks.csv"),
            "There is no task that a and another have in common: a has items, tasks has arc, ",
        ),
        (("a.csv", "b.csv", "margin=2"), "stats.margin=2.0 must be above 0 and below 1"),
    ],
)
def test_a_wrong_command_gets_one_sentence_and_writes_nothing(
    compare: Callable[..., Ended], here: Path, words: tuple[str, ...], said: str
) -> None:
    write(here / "a.csv", {1: 1, 2: 0})
    write(here / "b.csv", {1: 1, 2: 1})
    shutil.copy(here / "a.csv", here / "copy.csv")
    write(here / "tasks.csv", {1: 1, 2: 1}, task=["arc", "gsm8k"])
    before = sorted(here.iterdir())
    ended = compare(*words)
    assert ended.status == 2
    assert ended.err.startswith(f"quantexp: {said.replace('{folder}', str(here))}")
    assert ended.err.count("\n") == 1
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize(
    ("ids", "references", "said"),
    [
        (["8", "9"], ["x", "y"], "they have no item in common by the id (8 is one, and 1 of the other)."),
        (["1", "2"], ["x", "z"], "the reference answer differs on 1 of 2 items."),
    ],
)
def test_items_that_are_not_the_same_are_not_paired(
    compare: Callable[..., Ended], here: Path, ids: list[str], references: list[str], said: str
) -> None:
    base = write(here / "base.csv", {"1": 1, "2": 0}, target=["x", "y"])
    other = write(here / "q4.csv", dict.fromkeys(ids, 1), target=references)
    ended = compare(base, other)
    assert ended.status == 1
    assert f"q4 on items is not compared with base: {said}" in ended.report
    assert ended.comparisons == []


@pytest.mark.parametrize("name", ["it's", 'a "b"', "a,b=c", "tab\tend\\", "[1]", "é {k: v}"])
def test_any_name_of_a_file_will_do(compare: Callable[..., Ended], here: Path, name: str) -> None:
    write(here / "base.csv", {1: 1, 2: 0})
    write(here / f"{name}.csv", {1: 1, 2: 1})
    ended = compare("base.csv", f"{name}.csv")
    assert ended.status == 0, ended.err
    assert [row["quant"] for row in ended.comparisons] == [name]


def test_a_path_may_hold_an_equals_sign(compare: Callable[..., Ended], here: Path) -> None:
    (here / "rate=3").mkdir()
    write(here / "base.csv", {1: 1, 2: 0})
    write(here / "rate=3" / "q4.csv", {1: 1, 2: 1})
    for words, name in ((("rate=3/q4.csv",), "rate=3/q4"), (("4 bit=rate=3/q4.csv",), "4 bit")):
        ended = compare("base.csv", *words)
        assert ended.status == 0, ended.err
        assert [row["quant"] for row in ended.comparisons] == [name.rpartition("/")[2]]


def test_keys_are_told_from_paths(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    (here / "metric=acc").touch()
    (here / "a").touch()
    words = ["a", "Q4=a", "metric=acc", "margin=0.1", "stats.seed=3", "+hydra.x=1"]
    rewritten = ["margin=0.1", "stats.seed=3", "+hydra.x=1", 'results=["a","Q4=a","metric=acc"]']
    assert rewrite_words(words, CompareConfig) == rewritten
    assert rewrite_words([*words, "--cfg", "job"], CompareConfig) == [*rewritten, "--cfg", "job"]
    # A flag's value is none of the results, though there is such a file.
    assert rewrite_words(["--config-dir", "a", *words], CompareConfig) == ["--config-dir", "a", *rewritten]


def test_a_comparison_can_be_recorded(compare: Callable[..., Ended], here: Path) -> None:
    base, other = write(here / "base.csv", {1: 1, 2: 0, 3: 1}), write(here / "q4.csv", {1: 1, 2: 1, 3: 0})
    ended = compare(base, other, "mlflow=true")
    assert ended.status == 0, ended.err
    assert "browse  mlflow ui --backend-store-uri" in ended.out
    client = mlflow.MlflowClient(f"sqlite:///{here / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("quantexp")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("compare", "FINISHED")
    assert run.data.metrics["items/loss_against_base q4"] == 0
    assert {"report.html", "flips.parquet"} <= {each.path for each in client.list_artifacts(run.info.run_id)}
