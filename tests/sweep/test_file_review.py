"""Files of one model against each other, those of a folder: what a sweep says of them, and what it compares."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from tests.support.composing import compose_job, initialize_hydra
from tests.support.gguf_files import write_whole_gguf
from tests.support.reasoning_models import CHAT, write_renamed
from tests.support.stores import runs_of

from quantexp.models import ModelFile
from quantexp.models.base_model import check_same_model
from quantexp.models.contents import read_contents
from quantexp.sweep.file_review import review_files
from quantexp.util.errors import UserError

Command = Callable[..., tuple[int, str, str]]

QUICK = (
    *("task=triviaqa", "task.limit=2", "task.shots=0", "task.max_tokens=8"),
    *("engine.threads=1", "engine.context=1024", "stats.resamples=100"),
)
LABELS = ("Q8_0", "Q3_K_M", "UD-Q4_K_XL")
MISNOMERS = (
    "hold mostly other types than their names say: UD-Q4_K_XL (Q4_1, of which 91% Q8_0); Q3_K_M, of which 91% Q8_0."
)
"""Most of the small model is its vocabulary, whose rows are too short for such types."""


@pytest.fixture(scope="session")
def folder(cache: Path, make_small: Callable[[str], ModelFile]) -> Path:
    """A folder as a user of several publishers has it; one file has a chat template of its own."""
    made = cache / "tiny"
    with FileLock(cache / "tiny.lock"):
        if not made.is_dir():
            new = cache / "tiny.new"
            new.mkdir()
            for quant in ("Q8_0", "Q3_K_M"):
                (new / f"Tiny-{quant}.gguf").symlink_to(make_small(quant).path)
            write_renamed(make_small("Q4_1").path, new / "Tiny-UD-Q4_K_XL.gguf", {}, CHAT)
            (new / "mmproj-Tiny-F16.gguf").write_bytes(b"GGUF")
            (new / "Tiny-BF16-00001-of-00002.gguf").write_bytes(b"GGUF")
            new.rename(made)
    return made


@pytest.fixture(scope="module")
def compared(folder: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A sweep over that folder: where it ran, its output and its log."""
    here = tmp_path_factory.mktemp("compared")
    status, out, err = command(here, "quantexp", "-m", "model=folder", f"model.path={folder}", *QUICK)
    assert status == 0, err
    return here, out, err


def test_the_files_are_listed_before_the_first_job(compared: tuple[Path, str, str]) -> None:
    lines = [line.partition(" ")[2] for line in compared[2].splitlines()]
    begun = next(number for number, line in enumerate(lines) if line.startswith("3 jobs: "))
    listed = lines[:begun]
    assert re.fullmatch(r"Q8_0, the baseline: Tiny-Q8_0\.gguf, \d\.\d MB, holds Q8_0", listed[0])
    for pattern in (
        r"Q3_K_M: Tiny-Q3_K_M\.gguf, \d\.\d MB, holds Q3_K_M, of which 91% Q8_0",
        r"UD-Q4_K_XL: Tiny-UD-Q4_K_XL\.gguf, \d\.\d MB, holds Q4_1, of which 91% Q8_0",
    ):
        assert any(re.fullmatch(pattern, line) for line in listed), pattern
    assert "left out: Tiny-BF16-00001-of-00002.gguf, 1 of 2 parts; mmproj-Tiny-F16.gguf, a projector" in listed, listed


def test_all_are_compared_with_the_largest(compared: tuple[Path, str, str]) -> None:
    here, out, _ = compared
    for word in ("tiny", *LABELS, "the baseline (Q8_0)", MISNOMERS):
        assert word in " ".join(out.split())
    jobs = runs_of(here, "job")
    assert {run.data.tags["quant"] for run in jobs} == set(LABELS)
    assert {run.data.tags["model"] for run in jobs} == {"tiny"}
    assert {run.data.params["stats.baseline"] for run in jobs} == {"Q8_0"}


def test_one_chat_template_serves_all_and_that_is_told(compared: tuple[Path, str, str], folder: Path) -> None:
    here, _, err = compared
    [line] = [line for line in err.splitlines() if "another chat template" in line]
    said = rf"{folder}/Tiny-UD-Q4_K_XL\.gguf: another chat template than in {folder}/Tiny-Q8_0\.gguf, whose is used "
    assert re.search(said + r"for all \(sha256 \w{12}; model\.chat_template=FILE chooses one\)", line)
    [used] = {run.data.params["model.chat_template"] for run in runs_of(here, "job")}
    own = read_contents(folder / "Tiny-Q8_0.gguf").metadata["tokenizer.chat_template"]
    assert Path(used).read_text(encoding="utf-8") == own


def test_the_same_command_runs_nothing_again(
    compared: tuple[Path, str, str], folder: Path, command: Command, tmp_path: Path
) -> None:
    before = len(runs_of(compared[0], "job"))
    chosen = ("model=folder", f"model.path={folder}", "quant=Q8_0,Q3_K_M,UD-Q4_K_XL")
    status, _, err = command(compared[0], "quantexp", "-m", *chosen, *QUICK, files=tmp_path)
    assert (status, err.count("finished before")) == (0, 3), err
    assert len(runs_of(compared[0], "job")) == before


@pytest.mark.slow
def test_jobs_side_by_side(folder: Path, command: Command, tmp_path: Path) -> None:
    chosen = ("hydra/launcher=joblib", "model=folder", f"model.path={folder}", 'quant=glob("*Q*", exclude="Q3*")')
    status, _, err = command(tmp_path, "quantexp", "-m", *chosen, *QUICK)
    assert status == 0, err
    assert "not asked for: Q3_K_M" in err
    jobs = runs_of(tmp_path, "job")
    assert {run.data.tags["quant"] for run in jobs} == {"Q8_0", "UD-Q4_K_XL"}
    assert len({run.data.params["model.chat_template"] for run in jobs} - {"None"}) == 1


def test_jobs_side_by_side_that_need_the_baselines_are_told_how_to_begin(
    folder: Path, command: Command, tmp_path: Path
) -> None:
    chosen = ("hydra/launcher=joblib", "model=folder", f"model.path={folder}", "divergence=true")
    status, _, err = command(tmp_path, "quantexp", "-m", *chosen, *QUICK)
    assert status == 2
    alone = r"run this command with quant=Q8_0 and model\.chat_template=\S+\.jinja alone, then as it is\.$"
    assert re.search(alone, err.splitlines()[-1])


def test_a_file_of_another_model_is_refused_before_the_first_job(
    folder: Path, command: Command, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "Tiny-Q8_0.gguf").symlink_to(folder / "Tiny-Q8_0.gguf")
    write_whole_gguf(mixed / "Other-F32.gguf")
    status, _, err = command(tmp_path, "quantexp", "-m", "model=folder", f"model.path={mixed}", *QUICK)
    assert status == 2
    assert err.splitlines()[-1] == (
        f"quantexp: {mixed}/Tiny-Q8_0.gguf and {mixed}/Other-F32.gguf are not quants of one model: block_count is 4 "
        "in the one and 1 in the other; leave one of them out, with quant=A,B."
    )
    assert not (tmp_path / "mlruns").exists()


def test_a_file_that_cannot_be_read_is_refused_with_a_way_out(folder: Path, command: Command, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "Tiny-Q8_0.gguf").symlink_to(folder / "Tiny-Q8_0.gguf")
    (cut / "Tiny-Q4_0.gguf").write_bytes((folder / "Tiny-Q3_K_M.gguf").read_bytes()[:5000])
    status, _, err = command(tmp_path, "quantexp", "-m", "model=folder", f"model.path={cut}", *QUICK)
    assert status == 2
    assert err.splitlines()[-1] == (
        f"quantexp: {cut}/Tiny-Q4_0.gguf is not a complete GGUF file (its header ends behind the end of the file); "
        "fetch or make it again, or leave it out, with quant=A,B."
    )


def test_a_name_that_says_another_type_is_told(
    folder: Path, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for label in ("Q8_0", "Q4_0"):
        (tmp_path / f"Tiny-{label}.gguf").symlink_to(folder / "Tiny-Q8_0.gguf")
    place = ("model=folder", f"model.path={tmp_path}", "model.name=tiny", f"model.cache={cache}", "quant=as-is")
    with initialize_hydra(), caplog.at_level("WARNING"):
        assert review_files([compose_job(*place, f"quant.name={label}") for label in ("Q8_0", "Q4_0")]) is None
    assert caplog.messages == ["Tiny-Q4_0.gguf is named Q4_0, and says that it holds Q8_0"]


def test_another_vocabulary_is_another_model(folder: Path, tmp_path: Path) -> None:
    source = folder / "Tiny-Q8_0.gguf"
    renamed = write_renamed(str(source), tmp_path / "renamed.gguf", {28: ("other", 1)}, CHAT)
    same, other = read_contents(source), read_contents(renamed)
    check_same_model(same, [read_contents(folder / "Tiny-Q3_K_M.gguf")], "no")
    with pytest.raises(UserError, match=r"renamed\.gguf are not .*: of their 49,152 tokens, some are written differ"):
        check_same_model(same, [other], "leave one out")
