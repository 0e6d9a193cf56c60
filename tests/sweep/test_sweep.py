"""Sweeps and aggregations as commands: what they print, record and leave, also when things go wrong."""

import csv
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from running import until
from tests.support.copies import copied
from tests.support.forking import Forker
from tests.support.stores import client_of, runs_of

from quantexp.models import ModelFile
from quantexp.stats import compare

Command = Callable[..., tuple[int, str, str]]

QUICK = (
    "task=triviaqa",
    "task.limit=2",
    "task.shots=0",
    "task.max_tokens=2",
    "engine.threads=1",
    "stats.resamples=100",
)


def comparisons(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def printed_paths(out: str) -> dict[str, str]:
    return dict(re.findall(r"^(verdict|report|browse) +(.+?) *$", out, flags=re.MULTILINE))


def table_of(out: str) -> str:
    """What was printed before the paths, which differ from one aggregation to the next."""
    return out.partition("\nreport ")[0]


# A sweep in which all goes well


def test_a_sweep_succeeds_and_prints_the_table_and_where_the_rest_is(swept: Path) -> None:
    assert (swept / "status.txt").read_text() == "0"
    out = (swept / "out.txt").read_text()
    for word in ("smollm2-135m-instruct", "triviaqa", "extraction", "Q8_0", "Q3_K_M", "the baseline", "data=bundled"):
        assert word in out
    paths = printed_paths(out)
    first, *_, report, browse, page = out.splitlines()
    assert re.match(r" {8}http://127\.0\.0\.1:5000/#/experiments/\d+/runs\?", page)
    assert [line.split()[0] for line in (first, report, browse)] == ["verdict", "report", "browse"]
    assert paths["verdict"].endswith(".")
    assert Path(paths["report"]).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert Path(paths["report"]).with_name("score_vs_bits.png").read_bytes().startswith(b"\x89PNG")
    command = re.fullmatch(r"mlflow ui --backend-store-uri sqlite:///(\S+) --workers 1", paths["browse"])
    assert command is not None
    assert Path(command[1]) == swept / "mlruns" / "mlflow.db"


def test_what_is_not_a_terminal_gets_no_bars_and_no_escape_codes(swept: Path) -> None:
    out, err = (swept / "out.txt").read_text(), (swept / "err.txt").read_text()
    assert "\x1b" not in out + err
    assert "\r" not in out + err
    assert "Downloading artifacts" not in out + err


def test_the_log_is_one_short_line_an_event(swept: Path) -> None:
    lines = (swept / "err.txt").read_text().splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines), lines
    assert "4 jobs: Q8_0, Q3_K_M on triviaqa, extraction (bundled data), tracked in" in lines[0]
    scores = [line for line in lines if re.search(r"seed 0: score [01]\.\d{3} \[.*\] on 3 bundled items, ", line)]
    assert len(scores) == 4
    assert not any("mlflow" in line.lower() and "tracked in" not in line for line in lines), lines


def test_the_report_is_on_disk_and_with_the_sweep(swept: Path) -> None:
    [parent] = runs_of(swept, "sweep")
    names = {entry.path for entry in client_of(swept).list_artifacts(parent.info.run_id)}
    # "jobs" has a file for each job, which a sweep of many is read from.
    tables = {"registration.yaml", "flips.json", "flips.parquet", "jobs"}
    assert names >= tables
    names -= tables
    tables_of_report = {"comparisons.csv", "conditions.csv", "outcomes.csv"}
    pages = {"report.html", "report.md", "score_vs_bits.png", "score_vs_bits.svg", *tables_of_report}
    assert names == pages
    folder = Path(printed_paths((swept / "out.txt").read_text())["report"]).parent
    assert {file.name for file in folder.iterdir()} == names
    for name in names:
        recorded = Path(client_of(swept).download_artifacts(parent.info.run_id, name))
        assert recorded.read_bytes() == (folder / name).read_bytes()


def test_the_report_says_that_the_ladder_is_made_from_a_quantized_file(swept: Path) -> None:
    report = Path(printed_paths((swept / "out.txt").read_text())["report"]).with_name("report.md").read_text()
    assert "its quants are made from a file that is itself quantized (Q4_1, 5.7 bits per weight)" in report


NUMBERS = ("difference", "low", "high", "upper", "p_value", "n", "lost", "gained")


def test_differences_are_those_of_the_item_tables(swept: Path) -> None:
    folder = Path(printed_paths((swept / "out.txt").read_text())["report"]).parent
    rows = comparisons((folder / "comparisons.csv").read_text())
    assert {row["task"] for row in rows} == {"triviaqa", "extraction"}
    scores = {}
    for run in runs_of(swept, "job"):
        table = pd.read_parquet(client_of(swept).download_artifacts(run.info.run_id, "items.parquet"))
        scores[run.data.tags["task"], run.data.tags["quant"]] = table.set_index("item_id")["score"].sort_index()
    for row in rows:
        before, after = scores[row["task"], "Q8_0"], scores[row["task"], "Q3_K_M"]
        expected = compare(before.to_numpy(), after.to_numpy(), resamples=10_000, seed=42, confidence=0.95)
        assert float(row["difference"]) == pytest.approx((before - after).mean())
        numbers = [float(row[key]) for key in NUMBERS]
        assert numbers == [
            getattr(expected, key) for key in NUMBERS
        ]  # fmt: skip


def test_the_changed_answers_are_those_of_the_item_tables_and_one_click_away(swept: Path) -> None:
    [parent] = runs_of(swept, "sweep")
    changed = pd.read_parquet(client_of(swept).download_artifacts(parent.info.run_id, "flips.parquet"))
    tables = {
        (run.data.tags["task"], run.data.tags["quant"]): pd.read_parquet(
            client_of(swept).download_artifacts(run.info.run_id, "items.parquet")
        ).set_index("item_id")
        for run in runs_of(swept, "job")
    }
    expected = set()
    for task in ("triviaqa", "extraction"):
        before, after = tables[task, "Q8_0"], tables[task, "Q3_K_M"]
        for item in before.index:
            was, now = before.loc[item], after.loc[item]
            if was["score"] != now["score"]:
                expected.add((task, item, "lost" if was["score"] > now["score"] else "gained", now["output"]))
    flips = changed[changed["change"].isin(["lost", "gained"])]
    found = set(flips[["task", "item_id", "change", "quant_output"]].itertuples(index=False, name=None))
    assert found == expected
    folder = Path(printed_paths((swept / "out.txt").read_text())["report"]).parent
    page = (folder / "report.html").read_text()
    linked = set(re.findall(r'<a href="#([^"]+)" aria-label="\d+ lost by', page))
    sections = set(re.findall(r'<section class="changed" id="([^"]+)"', page))
    assert linked == sections
    assert bool(sections) == (not changed.empty)
    assert page.count('<details class="answer">') == len(flips)


# Aggregation of what is in the store


def test_the_report_and_the_runs_give_the_same_intervals(swept: Path) -> None:
    folder = Path(printed_paths((swept / "out.txt").read_text())["report"]).parent
    reported = {(row["task"], row["quant"]): row for row in comparisons((folder / "conditions.csv").read_text())}
    for run in runs_of(swept, "job"):
        row = reported[run.data.tags["task"], run.data.tags["quant"]]
        for metric, column in {"score": "mean", "score_low": "low", "score_high": "high"}.items():
            assert run.data.metrics[metric] == pytest.approx(float(row[column]), abs=1e-12)


def test_any_sweep_can_be_compared_again(swept: Path, tmp_path: Path, command: Command) -> None:
    copied(swept, tmp_path)
    [parent] = runs_of(swept, "sweep")
    for which in ((), (f"sweep={parent.info.run_id}",)):
        status, out, err = command(tmp_path, "quantexp.aggregate", *which)
        assert (status, err) == (0, "")
        assert table_of(out) == table_of((swept / "out.txt").read_text())


def test_single_runs_can_be_compared_and_the_report_is_recorded(swept: Path, tmp_path: Path, command: Command) -> None:
    copied(swept, tmp_path)
    ids = [run.info.run_id for run in runs_of(swept, "job") if run.data.tags["task"] == "extraction"]
    status, out, err = command(tmp_path, "quantexp.aggregate", f"runs=[{','.join(ids)}]", "stats.baseline=Q3_K_M")
    assert (status, err) == (0, "")
    [turned] = comparisons((Path(printed_paths(out)["report"]).parent / "comparisons.csv").read_text())
    folder = Path(printed_paths((swept / "out.txt").read_text())["report"]).parent
    [straight] = [row for row in comparisons((folder / "comparisons.csv").read_text()) if row["task"] == "extraction"]
    assert (turned["baseline"], turned["quant"]) == ("Q3_K_M", "Q8_0")
    assert float(turned["difference"]) == pytest.approx(-float(straight["difference"]))
    [recorded] = runs_of(tmp_path, "aggregate")
    assert recorded.info.status == "FINISHED"
    assert recorded.data.tags["runs"] == ",".join(ids)
    assert any(file.path == "report.md" for file in client_of(tmp_path).list_artifacts(recorded.info.run_id))


@pytest.mark.parametrize(
    ("folder", "argument", "sentence"),
    [
        ("swept", "sweep=nonsense", "There is no run nonsense in "),
        ("swept", "runs=[nonsense]", "There is no run nonsense in "),
        ("empty", "sweep=latest", "There is no sweep in "),
        ("file/below", "sweep=latest", "There is no sweep in "),
        ("garbage", "sweep=latest", "The MLflow store refused: file is not a database; "),
    ],
)
def test_what_cannot_be_aggregated_is_told_in_a_sentence(
    swept: Path, tmp_path: Path, command: Command, folder: str, argument: str, sentence: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "mlflow.db").write_text("not a database\n" * 100)
    store = swept / "mlruns" if folder == "swept" else tmp_path / folder
    status, out, err = command(tmp_path, "quantexp.aggregate", f"tracking.folder={store}", argument)
    assert (status, out) == (2, "")
    assert err.startswith(f"quantexp: {sentence}")
    assert err.count("\n") == 1


# When a sweep goes wrong


@pytest.fixture(scope="module")
def gguf(make_small: Callable[[str], ModelFile], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one GGUF for each quant, of which Q5_K_M is cut short."""
    folder = tmp_path_factory.mktemp("gguf")
    for name in ("Q8_0", "Q3_K_M"):
        file = make_small(name)
        (folder / f"{name}.gguf").symlink_to(file.path)
    with Path(file.path).open("rb") as whole:
        (folder / "Q5_K_M.gguf").write_bytes(whole.read(1 << 20))
    return folder


def test_a_job_that_fails_stops_no_other(tmp_path: Path, command: Command, cache: Path, gguf: Path) -> None:
    local = ("model=local", f"model.path={gguf}/${{quant.name}}.gguf", "model.context=1024", f"model.cache={cache}")
    status, out, err = command(tmp_path, "quantexp", "-m", "quant=Q8_0,Q5_K_M,Q3_K_M", *local, *QUICK)
    assert status == 1
    assert "Traceback" not in err
    by_quant = {run.data.tags["quant"]: run for run in runs_of(tmp_path, "job")}
    assert {quant: run.info.status for quant, run in by_quant.items()} == {
        "Q8_0": "FINISHED", "Q5_K_M": "FAILED", "Q3_K_M": "FINISHED",
    }  # fmt: skip
    reason = by_quant["Q5_K_M"].data.tags["error"]
    assert reason.startswith(f"{gguf}/Q5_K_M.gguf is not a complete GGUF file")
    assert f"Q5_K_M triviaqa seed 0 failed: {reason}" in err
    [parent] = runs_of(tmp_path, "sweep")
    assert parent.info.status == "FAILED"
    assert "the baseline" in out
    assert re.search(r"^ +Q3_K_M .*\d", out, flags=re.MULTILINE)
    assert "Failed: Q5_K_M triviaqa seed 0: " in out
    assert " ".join(out.split()).count("complete GGUF file that llama.cpp can read") == 1
    assert Path(printed_paths(out)["report"]).is_file()


def test_when_all_jobs_fail_it_says_so(tmp_path: Path, command: Command, cache: Path, gguf: Path) -> None:
    local = ("model=local", f"model.path={gguf}/Q5_K_M.gguf", f"model.cache={cache}")
    status, out, err = command(tmp_path, "quantexp", "-m", "quant=Q8_0,Q5_K_M", *local, *QUICK)
    assert (status, out) == (1, "")
    assert "Traceback" not in err
    assert "No finished job to compare in sweep" in err
    assert [run.info.status for run in runs_of(tmp_path, "sweep")] == ["FAILED"]


SIGNALS = [
    (signal.SIGTERM, 143),
    pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),  # see util/test_job_process.py, too
    pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_an_interrupted_sweep_leaves_no_run_open(
    tmp_path: Path, forker: Forker, cache: Path, number: signal.Signals, status: int
) -> None:
    process = forker.start(
        tmp_path, "quantexp", "-m", "quant=Q8_0,Q3_K_M", f"model.cache={cache}", *QUICK,
        "task.limit=50", "task.max_tokens=64",
    )  # fmt: skip
    until("its first line", lambda: "2 jobs: " in process.err, process=process, log=lambda: process.err)
    process.send_signal(number)
    returned, _, err = process.communicate(900)
    assert returned == status
    assert "Traceback" not in err
    assert "ignored" not in err
    [parent] = runs_of(tmp_path, "sweep")
    assert parent.info.status == "KILLED"
    assert {run.info.status for run in runs_of(tmp_path, "job")} <= {"KILLED"}
    assert f"python -m quantexp.aggregate sweep={parent.info.run_id}" in err


LOSING = """
import signal

from quantexp.tasks import triviaqa


class Lost:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


Lost()  # what the handler raises in a finalizer is printed, and goes no further
TASK = triviaqa.TASK
"""


def test_a_signal_whose_exception_is_lost_ends_the_sweep_all_the_same(
    tmp_path: Path, command: Command, small_model: tuple[str, ...]
) -> None:
    (tmp_path / "losing.py").write_text(LOSING)
    status, _, err = command(tmp_path, "quantexp", "-m", "task.module=losing", *small_model, *QUICK)
    assert "Exception ignored in" in err
    assert status == 143, err
    assert [run.info.status for run in runs_of(tmp_path, "sweep")] == ["KILLED"]
    assert runs_of(tmp_path, "job") == []


def test_an_interrupt_while_llama_cpp_writes_a_quant_is_not_lost(tmp_path: Path, forker: Forker) -> None:
    own_cache = tmp_path / "cache"
    process = forker.start(tmp_path, "quantexp", "-m", "quant=Q8_0", f"model.cache={own_cache}", *QUICK)
    until("a quant", lambda: list(own_cache.rglob("*.unfinished")), process=process, log=lambda: process.err)
    process.send_signal(signal.SIGINT)
    status, _, err = process.communicate(900)
    assert status == 130
    assert "Traceback" not in err
    assert "making MOSTLY_Q8_0" not in err
    assert [run.info.status for kind in ("sweep", "job") for run in runs_of(tmp_path, kind)] == ["KILLED"] * 2
    assert not list(own_cache.rglob("*.unfinished"))


@pytest.mark.slow
def test_two_sweeps_may_begin_in_one_fresh_folder_at_once(
    tmp_path: Path, forker: Forker, small_model: tuple[str, ...]
) -> None:
    command = ("quantexp", "-m", "quant=Q8_0", *small_model, *QUICK)
    both = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        both.append(forker.start(tmp_path, *command, files=tmp_path / name))
    for process in both:
        status, _, err = process.communicate(900)
        assert status == 0, err
    parents = [run.info.run_id for run in runs_of(tmp_path, "sweep")]
    assert len(parents) == 2
    jobs = runs_of(tmp_path, "job")
    assert [run.info.status for run in jobs] == ["FINISHED"] * 2
    assert sorted(run.data.tags["mlflow.parentRunId"] for run in jobs) == sorted(parents)
    assert len(list((tmp_path / "multirun").glob("*/*/report/report.md"))) == 2


def test_a_sweep_without_the_baseline_warns_first_and_then_says_that_nothing_is_compared(
    tmp_path: Path, command: Command, small_model: tuple[str, ...]
) -> None:
    status, out, err = command(tmp_path, "quantexp", "-m", "quant=Q3_K_M,Q5_K_M", *small_model, *QUICK)
    assert "the baseline Q8_0 is not among the quants of this sweep (Q3_K_M, Q5_K_M)" in err.splitlines()[0]
    assert "Traceback" not in err
    assert status == 1
    assert "Nothing was compared. There are scores of Q3_K_M and Q5_K_M, and none of the baseline Q8_0: run it" in out
    assert [run.info.status for run in runs_of(tmp_path, "job")] == ["FINISHED"] * 2


@pytest.mark.slow
def test_lines_and_verdicts_name_the_model_where_there_are_several_in_the_order_asked_for(
    tmp_path: Path, command: Command, cache: Path
) -> None:
    status, out, err = command(
        tmp_path, "quantexp", "-m", "model.name=zeta,alpha", "quant=Q8_0,Q3_K_M", f"model.cache={cache}", *QUICK
    )
    assert status == 0, err
    assert "4 jobs: Q8_0, Q3_K_M of zeta, alpha on triviaqa" in err
    assert re.findall(r"(\w+) \w+ triviaqa seed 0: score", err) == ["zeta", "zeta", "alpha", "alpha"]
    verdict = printed_paths(out)["verdict"]
    assert re.match(r"zeta: Q3_K_M: .*\. alpha: Q3_K_M: .*\. The margin is", verdict)
    assert verdict.count(" of zeta ") == verdict.count(" of alpha ") == 1
    assert out.index("\nzeta") < out.index("\nalpha")
    [parent] = runs_of(tmp_path, "sweep")
    assert parent.data.tags["model"] == "zeta, alpha"
    # The answers are the same file's, so alpha's came from the store: after the declaration, all the same.
    assert "Declared before the first answer" in out


def test_one_quant_alone_is_no_failure_in_a_sweep_and_is_one_in_a_comparison(
    tmp_path: Path, command: Command, small_model: tuple[str, ...]
) -> None:
    status, out, err = command(tmp_path, "quantexp", "-m", "quant=Q3_K_M", *small_model, *QUICK)
    assert status == 0, err
    assert "verdict Nothing was compared. There are scores of Q3_K_M, and none of the baseline Q8_0: run it" in out
    status, again, _ = command(tmp_path, "quantexp.aggregate")
    assert status == 1
    assert again.startswith("verdict Nothing was compared.")


@pytest.mark.parametrize("mode", [(), ("-m",)], ids=["job", "sweep"])
def test_a_store_that_cannot_be_written_is_told_in_a_sentence(
    tmp_path: Path, command: Command, cache: Path, mode: tuple[str, ...]
) -> None:
    (tmp_path / "file").touch()
    place = f"tracking.folder={tmp_path / 'file' / 'mlruns'}"
    status, out, err = command(tmp_path, "quantexp", *mode, place, f"model.cache={cache}", *QUICK)
    assert (status, out) == (2, "")
    assert err.startswith(f"quantexp: The system refused: Not a directory ({tmp_path / 'file' / 'mlruns'}); ")
    assert err.count("\n") == 1


# One job


def test_one_job_is_recorded_and_says_its_score(tmp_path: Path, command: Command, small_model: tuple[str, ...]) -> None:
    status, out, err = command(tmp_path, "quantexp", *small_model, *QUICK)
    assert (status, out) == (0, "")
    assert "Q8_0 triviaqa seed 0: score " in err
    [job] = runs_of(tmp_path, "job")
    assert job.info.status == "FINISHED"
    assert "mlflow.parentRunId" not in job.data.tags
    assert runs_of(tmp_path, "sweep") == []
