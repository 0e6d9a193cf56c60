"""Pulling the plug: a sweep that is killed and started again ends as if nothing had happened."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.entities import Run as RunEntity
from tests.support.forking import Forker, Running
from tests.support.stores import runs_of

from quantexp.engines import Decoding, Prompt
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.evaluation.generation import generate
from quantexp.models import ModelFile
from quantexp.store import CompletionStore

CHANCES = [(5, 1), *(pytest.param(chance, 10, marks=pytest.mark.slow) for chance in range(3))]
"""The seed of the moments, and the kills in a row in one folder: thirty-one in all."""

QUANTS, ITEMS, LANES = ("Q8_0", "Q3_K_M"), 6, 2


class Sweeps:
    """Starts one sweep, in any folder."""

    def __init__(self, model: tuple[str, ...], forker: Forker) -> None:
        self._forker = forker
        self._command = (
            "quantexp", "-m", f"quant={','.join(QUANTS)}", "task=triviaqa", f"task.limit={ITEMS}", "task.shots=0",
            "task.max_tokens=5", "engine.threads=1", f"engine.lanes={LANES}", "engine.context=256",
            "stats.resamples=50", *model,
        )  # fmt: skip

    def start(self, folder: Path) -> Running:
        """Begin the sweep in a folder."""
        return self._forker.start(folder, *self._command)

    def run(self, folder: Path) -> str:
        """The sweep, to its end; what it said."""
        ended = self._forker.run(folder, *self._command)
        assert ended.status == 0, ended.err
        return ended.err


@pytest.fixture(scope="module")
def sweeps(small_model: tuple[str, ...], make_small: Callable[[str], ModelFile], forker: Forker) -> Sweeps:
    for quant in QUANTS:  # before the clock runs
        make_small(quant)
    return Sweeps(small_model, forker)


Results = dict[str, tuple[bytes, bytes, dict[str, float]]]


def results(folder: Path) -> Results:
    """Of each quant: both item tables to the byte, and the metrics that follow from the answers."""
    found: Results = {}
    for run in runs_of(folder, "job"):
        if run.info.status == "FINISHED":
            tables = Path(run.info.artifact_uri.removeprefix("file://"))
            metrics = {key: value for key, value in run.data.metrics.items() if not key.startswith("run.")}
            assert run.data.tags["quant"] not in found, "a finished job was run again"
            found[run.data.tags["quant"]] = (
                (tables / "items.parquet").read_bytes(), (tables / "items.json").read_bytes(), metrics,
            )  # fmt: skip
    return found


def comparison(folder: Path) -> bytes:
    """The newest report's differences, to the byte."""
    return max(folder.glob("multirun/*/*/report/comparisons.csv"), key=lambda path: path.parts[-3]).read_bytes()


def stored_keys(folder: Path) -> list[str]:
    """The key of every record in the completion store, torn ones left out."""
    segments = (folder / "mlruns" / "completions").glob("*.jsonl")
    lines = [line for path in segments for line in path.read_bytes().split(b"\n")[:-1]]
    return [line[:64].decode() for line in lines]


@pytest.fixture(scope="module")
def uninterrupted(sweeps: Sweeps, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A folder in which the sweep ran through, and the seconds that it took."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    started = time.monotonic()
    sweeps.run(folder)
    return folder, time.monotonic() - started


@pytest.mark.parametrize(("chance", "kills"), CHANCES)
def test_killed_again_and_again(
    sweeps: Sweeps, uninterrupted: tuple[Path, float], tmp_path: Path, chance: int, kills: int
) -> None:
    whole, seconds = uninterrupted
    moments = random.Random(chance)
    for _ in range(kills):
        process = sweeps.start(tmp_path)
        time.sleep(moments.uniform(0, 0.35 * seconds))
        process.send_signal(signal.SIGKILL)  # if it has ended, the next one finds everything done
        process.communicate(900)
    before = len(stored_keys(tmp_path))
    said = sweeps.run(tmp_path)
    assert results(tmp_path) == results(whole)
    assert comparison(tmp_path) == comparison(whole)
    # Nothing that was stored is generated again; what was in flight at each kill is all that is lost.
    keys = stored_keys(tmp_path)
    assert len(keys) == len(set(keys)) == len(QUANTS) * ITEMS
    assert set(keys) == set(stored_keys(whole))
    reused = sum(run.data.metrics["run.completions_from_store"] for run in runs_of(tmp_path, "job") if is_new(run))
    new = sum(run.data.metrics["run.completions_generated"] for run in runs_of(tmp_path, "job") if is_new(run))
    assert before + new >= len(keys)
    assert reused + new == ITEMS * sum(is_new(run) for run in runs_of(tmp_path, "job"))
    # Whatever was cut off is closed, and there is one sweep, not six.
    assert "Traceback" not in said
    assert {run.info.status for run in runs_of(tmp_path, "job")} <= {"FINISHED", "KILLED"}
    assert "FINISHED" in {run.info.status for run in runs_of(tmp_path, "sweep")}
    assert len({run.data.tags["sweep.sha256"] for run in runs_of(tmp_path, "sweep")}) == 1


def is_new(run: RunEntity) -> bool:
    """Whether a run got so far as to record what it generated."""
    return bool(run.info.status == "FINISHED")


def test_a_finished_sweep_is_not_run_again(sweeps: Sweeps, uninterrupted: tuple[Path, float]) -> None:
    folder, _ = uninterrupted
    before, jobs = results(folder), len(runs_of(folder, "job"))
    said = sweeps.run(folder)
    assert said.count("finished before") == len(QUANTS)
    assert "continuing the sweep" in said
    assert results(folder) == before
    assert (len(runs_of(folder, "job")), len(runs_of(folder, "sweep"))) == (jobs, 1)


# The power fails: the last record is cut off anywhere


@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_a_record_cut_off_at_every_byte(
    engine: LlamaCpp, tmp_path: Path, caplog: pytest.LogCaptureFixture, step: int
) -> None:
    prompts = [Prompt(word, word, engine.tokenize(word), 0) for word in ("One", "Two", "Three")]
    once = Decoding(1)
    with CompletionStore(tmp_path / "whole") as store:
        whole = generate(engine, prompts, once, store, {})
    [segment] = (tmp_path / "whole").glob("*.jsonl")
    content = segment.read_bytes()
    start = content.rindex(b"\n", 0, -1) + 1
    expected = [(each.text, each.tokens, each.logprobs) for each in whole.completions]
    (tmp_path / "cut").mkdir()
    for end in sorted({*range(start, len(content), step), start + 1, len(content) - 1}):
        for old in (tmp_path / "cut").iterdir():
            old.unlink()
        (tmp_path / "cut" / segment.name).write_bytes(content[:end])
        caplog.clear()
        with CompletionStore(tmp_path / "cut") as store:
            again = generate(engine, prompts, once, store, {})
        assert (again.new, again.reused) == (1, 2)
        assert [(each.text, each.tokens, each.logprobs) for each in again.completions] == expected
        warned = [record for record in caplog.records if "damaged records" in record.message]
        assert len(warned) == (end > start)


def test_equal_prompts_are_generated_once(engine: LlamaCpp, tmp_path: Path) -> None:
    prompts = [Prompt(str(number), "", engine.tokenize("One" if number % 2 else "Two"), 0) for number in range(6)]
    advanced: list[int] = []
    with CompletionStore(tmp_path) as store:
        done = generate(engine, prompts, Decoding(3), store, {}, advance=advanced.append)
    assert (done.new, done.reused) == (2, 4)
    even, odd = ({each.tokens for each in done.completions[first::2]} for first in (0, 1))
    assert (len(even), len(odd), len(done.completions)) == (1, 1, 6)
    assert even != odd
    assert sum(advanced) == 6


def test_a_prompt_that_does_not_fit_is_not_stored(engine: LlamaCpp, tmp_path: Path) -> None:
    prompts = [Prompt("long", "", (5,) * 1024, 0), Prompt("short", "", (5, 6), 0)]
    with CompletionStore(tmp_path) as store:
        for _ in range(2):
            done = generate(engine, prompts, Decoding(2), store, {})
            assert [each.finish_reason for each in done.completions] == ["context", "length"]
    assert done.reused == 1
