"""Files of several publishers in one sweep: fetched first, compared under names of their own."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.gguf_files import write_whole_gguf
from tests.support.hub import Hub
from tests.support.reasoning_models import CHAT, write_renamed
from tests.support.stores import runs_of

from quantexp.models import ModelFile

Command = Callable[..., tuple[int, str, str]]

QUICK = (
    *("task=triviaqa", "task.limit=2", "task.shots=0", "task.max_tokens=2"),
    *("engine.threads=1", "engine.context=1024", "stats.resamples=100"),
)
ALICE, BOB = "alice/Tiny-GGUF", "bob/Tiny-GGUF"
NAMES = ("alice/Q8_0", "alice/Q3_K_M", "bob/Q3_K_M")
WEIGHTS = f"weights={ALICE}:Q8_0,{ALICE}:Q3_K_M,{BOB}:Q3_K_M"


@pytest.fixture(scope="module")
def hub(make_small: Callable[[str], ModelFile], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    stock = tmp_path_factory.mktemp("stock")
    alices = {f"Tiny-{quant}.gguf": Path(make_small(quant).path) for quant in ("Q8_0", "Q3_K_M")}
    bobs = write_renamed(make_small("Q4_1").path, stock / "bob.gguf", {}, CHAT)
    other = write_whole_gguf(stock / "other.gguf")
    with Hub() as hub:
        hub.publish("model", ALICE, alices)
        hub.publish("model", BOB, {"Q3_K_M/Tiny-Q3_K_M.gguf": bobs, "mmproj-Tiny-F16.gguf": b"GGUF"})
        hub.publish("model", "carol/tiny_v2-gguf", {"tiny-v2-Q3_K_M.gguf": other})
        yield hub
    shutil.rmtree(stock, ignore_errors=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def compared(hub: Hub, home: Path, command: Command) -> Iterator[tuple[Path, str, str]]:
    """A sweep over both publishers: where it ran, its output and its log."""
    here = home / "here"
    here.mkdir()
    status, out, err = command(here, "quantexp", "-m", WEIGHTS, *QUICK, environment=hub.environment(home))
    assert status == 0, err
    yield here, out, err
    shutil.rmtree(here, ignore_errors=True)


def test_the_files_of_all_publishers_are_compared_as_one_model(compared: tuple[Path, str, str]) -> None:
    here, out, err = compared
    for word in (*NAMES, "Tiny", "the baseline (alice/Q8_0)"):
        assert word in " ".join(out.split())
    jobs = runs_of(here, "job")
    assert {run.data.tags["quant"] for run in jobs} == set(NAMES)
    assert {run.data.tags["model"] for run in jobs} == {"Tiny"}
    assert {run.data.params["model.repository"] for run in jobs} == {ALICE, BOB}
    assert (here / "models" / BOB / "Q3_K_M" / "Tiny-Q3_K_M.gguf").is_file()
    assert re.search(r"alice/Q8_0, the baseline: Tiny-Q8_0\.gguf, \d+\.\d MB, holds Q8_0$", err, flags=re.MULTILINE)


def test_the_baselines_chat_template_serves_all(compared: tuple[Path, str, str]) -> None:
    here, _, err = compared
    [line] = [line for line in err.splitlines() if "another chat template" in line]
    assert f"models/{BOB}/Q3_K_M/Tiny-Q3_K_M.gguf: another chat template than in {here}/models/{ALICE}/Tiny-Q8" in line
    [template] = {run.data.params["model.chat_template"] for run in runs_of(here, "job")}
    assert Path(template).is_file()


def test_the_same_command_runs_nothing_again_and_needs_no_hub(
    compared: tuple[Path, str, str], hub: Hub, command: Command, home: Path, tmp_path: Path
) -> None:
    offline = {**hub.environment(home), "HF_HUB_OFFLINE": "1"}
    status, _, err = command(compared[0], "quantexp", "-m", WEIGHTS, *QUICK, environment=offline, files=tmp_path)
    assert (status, err.count("finished before")) == (0, 3), err


@pytest.mark.slow  # divergence follows conditions: test_conditions.py
def test_divergence_is_measured_across_publishers(
    compared: tuple[Path, str, str], hub: Hub, command: Command, home: Path, tmp_path: Path
) -> None:
    chosen = (f"weights={ALICE}:Q8_0,{BOB}:Q3_K_M", "divergence=true", *QUICK)
    status, out, err = command(
        compared[0], "quantexp", "-m", *chosen, environment=hub.environment(home), files=tmp_path
    )
    assert status == 0, err
    assert "bob/Q3_K_M" in out
    measured = [run for run in runs_of(compared[0], "job") if run.data.metrics.get("divergence")]
    assert [run.data.tags["quant"] for run in measured] == ["bob/Q3_K_M"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            (f"weights={ALICE}:Q8_0,carol/tiny_v2-gguf:Q3_K_M",),
            r"The repositories are called Tiny and tiny_v2, and all weights of a comparison are one model's: if they "
            r"are, add model\.name=Tiny\.$",
        ),
        (
            (f"weights={ALICE}:Q8_0,carol/tiny_v2-gguf:Q3_K_M", "model.name=Tiny"),
            rf"\S+/models/{ALICE}/Tiny-Q8_0\.gguf and \S+/models/carol/tiny_v2-gguf/tiny-v2-Q3_K_M\.gguf are not "
            r"quants of one model: block_count is 4 in the one and 1 in the other; leave one of them out\.$",
        ),
        (
            (f"weights={ALICE}:Q8_0,{BOB}:Q9",),
            rf"weights={BOB}:Q9: {BOB} has no such file at revision main, commit \w+; it has Q3_K_M\.$",
        ),
    ],
)
def test_what_is_no_comparison_is_refused(
    arguments: tuple[str, ...], said: str, hub: Hub, command: Command, home: Path, tmp_path: Path
) -> None:
    status, _, err = command(tmp_path, "quantexp", "-m", *arguments, *QUICK, environment=hub.environment(home))
    assert status == 2, err
    assert re.match(f"quantexp: {said}", err.splitlines()[-1])
    assert not (tmp_path / "mlruns").exists()
