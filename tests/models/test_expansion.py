"""Commands whose words stand for many files: as Hydra gets them."""

from pathlib import Path

import pytest

from quantexp.config.hydra_schemas import register_schemas
from quantexp.models.expansion import expand_arguments
from quantexp.util.errors import UserError

FILES = {"X-Q8_0.gguf": 8, "X-Q4_K_M.gguf": 5, "X-Q4_0.gguf": 4, "X-UD-Q4_K_XL.gguf": 6}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register_schemas()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tiny").mkdir()
    for name, size in FILES.items():
        (tmp_path / "tiny" / name).write_bytes(bytes(size))


FOLDER = ("model=folder", "model.path=tiny")
NAMED = "model.name=tiny"


@pytest.mark.parametrize(
    ("arguments", "expanded"),
    [
        (
            ("-m", *FOLDER, "seed=0,1"),
            ("quant.name=Q8_0,UD-Q4_K_XL,Q4_K_M,Q4_0", "stats.baseline=Q8_0", NAMED),
        ),
        (("-m", *FOLDER, "quant=Q4_0,q8_0"), ("quant.name=Q8_0,Q4_0", "stats.baseline=Q8_0", NAMED)),
        (("-m", *FOLDER, "quant=glob(Q4*)"), ("quant.name=Q4_K_M,Q4_0", "stats.baseline=Q4_K_M", NAMED)),
        (("-m", *FOLDER, 'quant=glob("*Q4_K*")'), ("quant.name=UD-Q4_K_XL,Q4_K_M", "stats.baseline=UD-Q4_K_XL", NAMED)),
        (("-m", *FOLDER, "quant=glob(*,exclude=Q4*)"), ("quant.name=Q8_0,UD-Q4_K_XL", "stats.baseline=Q8_0", NAMED)),
        (("-m", *FOLDER, "quant=as-is", "quant.name=Q4_0"), ("quant.name=Q4_0", "stats.baseline=Q8_0", NAMED)),
        (
            ("-m", *FOLDER, "stats.baseline=q4_0", "quant=Q8_0,Q4_0", "model.name=mine"),
            ("quant.name=Q4_0,Q8_0", "stats.baseline=Q4_0"),
        ),
        (
            ("-m", *FOLDER, "stats.baseline='q4_0 context=2048'", "quant=Q8_0,Q4_0"),
            ("quant.name=Q4_0,Q8_0", "stats.baseline='Q4_0 context=2048'", NAMED),
        ),
        (("quant=UD-Q4_K_XL", *FOLDER), ("quant.name=UD-Q4_K_XL", "stats.baseline=Q8_0", NAMED)),
        (("--cfg", "job", *FOLDER), ("quant.name=Q8_0", "stats.baseline=Q8_0", NAMED)),
        ((*FOLDER, "quant=Q4_0", "--cfg", "job"), ("quant.name=Q4_0", "stats.baseline=Q8_0", NAMED)),
    ],
)
def test_a_folder(arguments: tuple[str, ...], expanded: tuple[str, ...]) -> None:
    given = expand_arguments(arguments)
    kept = [each for each in arguments if not each.startswith(("quant", "stats.baseline"))]
    assert [each for each in given if each in kept] == kept
    assert [each for each in given if each not in kept] == ["quant=as-is", *expanded]
    flags = [at for at, each in enumerate(given) if each in {"--cfg", "job", "-m"}]
    assert flags in ([0], [0, 1], [len(given) - 2, len(given) - 1], []), "keys stand together"


def test_a_path_in_the_home_folder_needs_no_quotes() -> None:
    given = expand_arguments(["-m", "model=folder", "model.path=~/tiny"])
    assert "model.path='~/tiny'" in given
    assert "stats.baseline=Q8_0" in given


def test_a_file_of_configuration_may_choose_the_folder(tmp_path: Path) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: folder\nmodel: {path: tiny}\nstats: {baseline: Q8_0}\n"
        "hydra: {mode: MULTIRUN, sweeper: {params: {quant: 'BF16,Q8_0'}}}\n"
    )
    (tmp_path / "tiny" / "X-BF16.gguf").write_bytes(bytes(16))
    given = expand_arguments(["--config-dir", "own", "experiment=mine"])
    assert given[2:] == ["experiment=mine", "quant=as-is", "quant.name=Q8_0,BF16", "stats.baseline=Q8_0", NAMED]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-m", "quant=Q8_0,Q4_0"),
        ("store.folder=x", "model.path=~/x.gguf"),
        ("-m", "model=local", "model.path=tiny/${quant.name}.gguf"),
        ("experiment=quant-cliff",),
    ],
)
def test_other_commands_stay_as_they_are(arguments: tuple[str, ...]) -> None:
    assert expand_arguments(arguments) == list(arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            FOLDER,
            "{folder} has Q8_0, UD-Q4_K_XL, Q4_K_M, Q4_0: add -m to compare them, or choose one with quant=LABEL.",
        ),
        (
            ("-m", *FOLDER, "quant=Q8_0,IQ4_XS"),
            "quant=IQ4_XS: {folder} has no such file; choose one of Q8_0, UD-Q4_K_XL, Q4_K_M, Q4_0.",
        ),
        (
            ("-m", *FOLDER, "quant=glob(IQ*)"),
            "The pattern of quant fits none of the quants in {folder}: Q8_0, UD-Q4_K_XL, Q4_K_M, Q4_0.",
        ),
        (
            ("-m", *FOLDER, "stats.baseline=F16"),
            "stats.baseline=F16: {folder} has no such file; choose one of Q8_0, UD-Q4_K_XL, Q4_K_M, Q4_0.",
        ),
        (("-m", "model=folder"), "model=folder needs the folder: add model.path=FOLDER."),
        (
            ("-m", "model=folder", "model.path=a,b"),
            "model.path=a,b: a sweep with model=folder has one folder; leave out the others.",
        ),
        (
            ("-m", "model=folder,local", "model.path=tiny"),
            "model=folder,local: a sweep with model=folder has one folder; leave out the others.",
        ),
        (
            ("-m", *FOLDER, "model.quantize=true"),
            "model.quantize=true makes quants from one file: give that with model=local model.path=FILE.",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        expand_arguments(arguments)
    assert str(refused.value) == said.replace("{folder}", str(tmp_path / "tiny"))


ALICE, BOB = "alice/X-GGUF:Q8_0", "bob/X-GGUF:Q4_K_M@v2"


@pytest.mark.parametrize(
    ("arguments", "expanded"),
    [
        (
            ("-m", f"weights={ALICE},{BOB}", "seed=0,1"),
            ("model.name=X", "model=hub", "stats.baseline=alice/Q8_0"),
        ),
        (("-m", f"weights={BOB},{ALICE}", "stats.baseline=alice/Q8_0"), ("model.name=X", "model=hub")),
        (("-m", f"weights={ALICE},{BOB}", "model.name=mine"), ("model=hub", "stats.baseline=alice/Q8_0")),
        (("-m", f"weights={ALICE},{BOB}", "model=qwen3-8b"), ("stats.baseline=alice/Q8_0",)),
        (
            ("--cfg", "job", f"weights={BOB}"),
            (
                *("model.name=X", "model=hub", "stats.baseline='bob/Q4_K_M@v2'", "quant=as-is", "quant.label=Q4_K_M"),
                *("model.source=hub", "model.repository=bob/X-GGUF", "model.revision=v2", "quant.name='bob/Q4_K_M@v2'"),
            ),
        ),
    ],
)
def test_weights(arguments: tuple[str, ...], expanded: tuple[str, ...]) -> None:
    given = expand_arguments(arguments)
    others = [each for each in given if each not in arguments and not each.startswith("weights=")]
    assert set(others) == set(expanded)
    [weights] = [each for each in given if each.startswith("weights=")]
    assert weights.replace("'", "") in arguments


def test_a_file_of_configuration_may_list_the_weights(tmp_path: Path) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      weights:\n"
        f"        - {ALICE}\n        - ~/mine-Q4_0.gguf\n"
    )
    given = expand_arguments(["--config-dir", "own", "experiment=mine"])
    assert f"weights='{ALICE}','~/mine-Q4_0.gguf'" in given
    assert {"model.name=X", "model=hub", "stats.baseline=alice/Q8_0"} <= set(given)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((f"weights={ALICE},{BOB}",), "weights names several files: add -m to compare them."),
        (("-m", f"weights={ALICE}", *FOLDER), "weights names files itself: leave out model=folder."),
        (
            ("-m", f"weights={ALICE}", "quant=Q8_0"),
            "weights chooses the quants too, as in OWNER/NAME:Q4_K_M: leave out quant=.",
        ),
        (
            ("-m", "weights=a/X-GGUF:Q8_0,a/X-128k-GGUF:Q8_0", "model.name=X"),
            "a/X-GGUF:Q8_0 and a/X-128k-GGUF:Q8_0 would both be called a/Q8_0, so that one would hide the other: leave "
            "one out, or make a sweep for each.",
        ),
        (
            ("-m", "weights=a/Org_X-GGUF:Q8_0,b/X-GGUF:Q8_0"),
            "The repositories are called Org_X and X, and all weights of a comparison are one model's: if they are, "
            "add model.name=X.",
        ),
        (
            ("-m", "weights=a.gguf,b.gguf"),
            "What the model of these files is called is yours to say: add model.name=NAME.",
        ),
        (
            ("-m", f"weights={ALICE},Q8_0"),
            "weights=Q8_0: name a file of the Hub as OWNER/NAME:LABEL, such as bartowski/Qwen3-8B-GGUF:Q4_K_M, or one "
            "on this machine as PATH.gguf.",
        ),
    ],
)
def test_weights_that_make_no_sense_are_refused(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError) as refused:
        expand_arguments(arguments)
    assert str(refused.value) == said
