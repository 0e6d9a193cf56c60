"""Which errors become one sentence, what it says, and which keep their traceback."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hydra import compose
from tests.support.composing import initialize_hydra

from quantexp.config import AggregateConfig, Config
from quantexp.config.validation import validated
from quantexp.util.error_reports import explain_error, past_hydra, report_errors
from quantexp.util.errors import UserError
from quantexp.util.native.file_types import list_quants

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.fixture(autouse=True)
def _no_full_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


KEYS = (
    "model, quant, task, data, engine, store, stats, tracking, hypothesis, judge, embedder, weights, seed, divergence, "
    "divergence_over, divergence_base, divergence_write, force"
)


def options(group: str) -> str:
    """The options of a group, as an error lists them."""
    file_types = list_quants() if group == "quant" else ()
    return ", ".join(sorted([*file_types, *(file.stem for file in (CONF / group).glob("*.yaml"))]))


@pytest.mark.usefixtures("conf")
@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("runs=scores.csv", "runs=scores.csv: a list is needed, as in runs=[A,B]."),
        ("runs=a,b", "runs=a,b: a list is needed; put it into brackets: 'runs=[a,b]'."),
        ("sweep=[a]", "sweep=[a]: one text is needed, without brackets."),
        ("run=a", "run: there is no such key; did you mean runs?"),
        ("quant=Q8_0", "quant: this command has no such group; --help lists its groups and keys."),
    ],
)
def test_a_wrong_override_of_aggregate(override: str, sentence: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of many types: the sentence is what is tested
        validated(compose("aggregate", [override]), AggregateConfig)
    assert explain_error(caught.value) == sentence


@pytest.fixture
def conf() -> Iterator[None]:
    with initialize_hydra():
        yield


@pytest.mark.usefixtures("conf")
@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("model=Nope", f"model=Nope: there is no such option; choose one of {options('model')}."),
        ("task=", f"task=: there is no such option; choose one of {options('task')}."),
        ("limt=5", f"limt: there is no such key; choose one of {KEYS}."),
        ("limit=5", "limit: there is no such key; did you mean task.limit or data.limit?"),
        ("task.limt=5", "task.limt: there is no such key; did you mean task.limit?"),
        (
            "task.sampling.temprature=1",
            "task.sampling.temprature: there is no such key; did you mean task.sampling.temperature?",
        ),
        ("engine.thread=2", "engine.thread: there is no such key; did you mean engine.threads?"),
        ("quant=q4_k_m", "quant=q4_k_m: there is no such option; did you mean quant=Q4_K_M?"),
        ("quant=iq4-xs", "quant=iq4-xs: there is no such option; did you mean quant=IQ4_XS?"),
        ("quant=mxfp4", "quant=mxfp4: there is no such option; did you mean quant=MXFP4?"),
        ("quant=Q4KM", "quant=Q4KM: there is no such option; did you mean quant=Q4_K_M?"),
        ("task=gsm", "task=gsm: there is no such option; did you mean task=gsm8k?"),
        ("tracking=sever", "tracking=sever: there is no such option; did you mean tracking=server?"),
        (
            "quant=UD-Q4_K_XL",
            f"quant=UD-Q4_K_XL: there is no such option; choose one of {options('quant')}; a GGUF of any other type is "
            "quant=as-is quant.name=UD-Q4_K_XL, with model=local or model=hub.",
        ),
        (
            "quant=Q4_K_L",  # near an option, and another quant all the same
            f"quant=Q4_K_L: there is no such option; choose one of {options('quant')}; a GGUF of any other type is "
            "quant=as-is quant.name=Q4_K_L, with model=local or model=hub.",
        ),
        (
            "quant=glob(Q[38]*)",
            "quant=glob(Q[38]*): the pattern needs quotes, one kind for the shell and one for Hydra: "
            "'quant=glob(\"Q[38]*\")'.",
        ),
        ("task=a/b", f"task=a/b: there is no such option; choose one of {options('task')}."),
        ("task.stop=abc", "task.stop=abc: a list is needed, as in task.stop=[A,B]."),
        ("task.stop={a: 1}", "task.stop={a: 1}: a list is needed, as in task.stop=[A,B]."),
        ("task.stop=a,b", "task.stop=a,b: a list is needed; put it into brackets: 'task.stop=[a,b]'."),
        ("data.columns=3", "data.columns=3: keys with values are needed, as in 'data.columns={KEY: VALUE}'."),
        ("data.columns=[a]", "data.columns=[a]: keys with values are needed, as in 'data.columns={KEY: VALUE}'."),
        ("stats.margins=x", "stats.margins=x: keys with values are needed, as in 'stats.margins={KEY: VALUE}'."),
        ("stats.baseline=[x]", "stats.baseline=[x]: one text is needed, without brackets."),
        ("model.path=${model.path}", "model.path: its ${...} leads back to itself; give it a value."),
        (
            "model.path=${oc.env:QUANTEXP_NOT_SET}",
            "model.path: the environment variable QUANTEXP_NOT_SET is not set; set it.",
        ),
        (
            "model.path=${foo:1}",
            "model.path: ${foo:...} means nothing here; ${oc.env:NAME} reads an environment variable.",
        ),
        ("+task=gsm8k", "task is chosen twice; choose it once, without a +: task=NAME."),
        ("task@x=gsm8k", "task@x: this command has no such group; --help lists its groups and keys."),
        ("hydra=x", "hydra: this command has no such group; --help lists its groups and keys."),
        ("=x", "A key is missing before the = of an override; write it as KEY=VALUE."),
        (
            "model.path=a=b",
            "model.path=a=b cannot be read as KEY=VALUE; put quotes around the value: 'model.path=\"a=b\"'.",
        ),
        (
            "+quant.zzz=1",
            "quant.zzz: there is no such key; choose one of quant.name, quant.file_type, "
            "quant.method, quant.label, quant.bits_per_weight.",
        ),
        (
            "++data.zzz=1",
            "data.zzz: there is no such key; choose one of data.name, data.source, data.repository, data.subset, "
            "data.split, data.revision, data.path, data.join, data.columns, data.examples, data.hint, data.limit, "
            "data.own.",
        ),
        ("model=hub", "model.repository has no value; add model.repository=VALUE to the command."),
        ("+zzz=1", f"zzz: there is no such key; choose one of {KEYS}."),
        (
            "+task.prompt.zzz=1",
            "task.prompt.zzz: there is no such key; choose one of task.prompt.version, task.prompt.instructions, "
            "task.prompt.item, task.prompt.answer, task.prompt.tools, task.prompt.system.",
        ),
        ("task.limit=abc", "task.limit=abc: a whole number is needed."),
        ("seed=range(3)", "seed=range(3) names several values; add -m to run a job for each of them."),
        ("seed=0,1", "seed=0,1 names several values; add -m to run a job for each of them."),
        ("experiment=nope", f"experiment=nope: there is no such option; choose one of {options('experiment')}."),
        ("seed=1.5", "seed=1.5: a whole number is needed."),
        ("seed=", "seed=: a whole number is needed."),
        ("stats.confidence=high", "stats.confidence=high: a number is needed."),
        ("model.quantize=maybe", "model.quantize=maybe: true or false is needed."),
        ("model.examples=nowhere", "model.examples=nowhere: there is no such choice; choose one of turns, answer."),
        ("divergence_over=mine", "divergence_over=mine: there is no such choice; choose one of answer, gold."),
        ("stats.unit=seed", "stats.unit=seed: there is no such choice; choose one of item, answer."),
        ("task.max_tokens=null", "task.max_tokens=null: this key needs a value."),
        ("task.prompt=x", "task.prompt holds several keys; set them one by one, as in task.prompt.KEY=VALUE."),
        ("quant.name=???", "quant.name has no value; add quant.name=VALUE to the command."),
        ("~quant", "quant.name has no value; add quant.name=VALUE to the command."),
        ("~task", "task.name has no value; add task.name=VALUE to the command."),
        ("~data", "data.name has no value; add data.name=VALUE to the command."),
        ("+seed=3", "+seed=3 adds a key that is there already; leave out the +."),
        ("+experiment=demo", "experiment is chosen twice; choose it once, without a +: experiment=NAME."),
        ("quant", "quant has no value; write it as KEY=VALUE."),
        (
            "task.limit=[1",
            "task.limit=[1 cannot be read as KEY=VALUE; put quotes around the value: 'task.limit=\"[1\"'.",
        ),
        (
            "task.shots=${model.zzz}",
            "task.shots: ${model.zzz} names no key; in single quotes, ${quant.name} stands for the quant of each job.",
        ),
        ("~zzz", "~zzz: there is no such key."),
        (
            "quant=null",
            "A config group was given something that is not a name; choose one of its options, for example quant=Q8_0.",
        ),
        ("task.limit=0", "task.limit=0 is too small; it must be at least 1."),
        ("task.max_tokens=0", "task.max_tokens=0 is too small; it must be at least 1."),
        ("task.shots=-1", "task.shots=-1 is too small; it must be at least 0."),
        ("engine.threads=0", "engine.threads=0 is too small; it must be at least 1."),
        ("engine.context=0", "engine.context=0 is too small; it must be at least 1."),
        ("engine.gpu_layers=-2", "engine.gpu_layers=-2 is too small; it must be at least -1."),
        ("stats.resamples=0", "stats.resamples=0 is too small; it must be at least 1."),
        ("stats.confidence=1", "stats.confidence=1.0 must be at least 0.5 and at most 0.9999, such as 0.95."),
        ("stats.confidence=0", "stats.confidence=0.0 must be at least 0.5 and at most 0.9999, such as 0.95."),
        ("stats.confidence=nan", "stats.confidence=nan must be at least 0.5 and at most 0.9999, such as 0.95."),
    ],
)
def test_a_wrong_override_becomes_this_sentence(override: str, sentence: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of many types: the sentence is what is tested
        validated(compose("config", [override]), Config)
    assert explain_error(caught.value) == sentence


def test_a_users_mistake_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left, report_errors():
        raise UserError("The sky is green; look again.")
    assert left.value.code == 2
    assert capsys.readouterr().err == "quantexp: The sky is green; look again.\n"


def test_a_place_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left, report_errors():
        (tmp_path / "missing" / "file").write_text("x")
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "missing" / "file") in said
    assert said.count("\n") == 1


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), report_errors():
        raise ZeroDivisionError


def test_ctrl_c_leaves_with_the_shells_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left, report_errors():
        raise KeyboardInterrupt
    assert left.value.code == 130
    assert capsys.readouterr().err == "quantexp: interrupted.\n"


@pytest.mark.parametrize("error", [UserError("Look again."), ZeroDivisionError("a bug")])
def test_nothing_between_an_error_and_its_report_can_swallow_it(error: Exception) -> None:
    expected = SystemExit if isinstance(error, UserError) else ZeroDivisionError
    with pytest.raises(expected), report_errors(), suppress(Exception), past_hydra():
        raise error


def test_a_users_mistake_keeps_its_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(UserError), report_errors(), past_hydra():
        raise UserError("Look again.")
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_a_report_leaves_the_environment_as_it_was() -> None:
    with report_errors():
        pass
    with pytest.raises(SystemExit), report_errors():
        raise UserError("Look again.")
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    script = """
from quantexp.util.error_reports import report_errors
with report_errors():
    while True:
        print("x" * 10_000)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        writer.stdout.read(1)
        writer.stdout.close()
        assert writer.stderr.read() == b""
        assert writer.wait(timeout=60) == 141
