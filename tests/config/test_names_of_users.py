"""Names that a user's own task brings, which become those of metrics, parameters and files."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quantexp.config import (
    Config,
    DataConfig,
    EngineConfig,
    ModelConfig,
    PromptConfig,
    QuantConfig,
    TaskConfig,
    TrackingConfig,
)
from quantexp.engines import close_engine
from quantexp.evaluation.job import run_job
from quantexp.models import ModelFile
from quantexp.store import CompletionStore
from quantexp.tasks import get_task
from quantexp.tracking.store import Store
from quantexp.util.errors import UserError

OWN = """
from quantexp.tasks import Grade, Grader, Task

RULES = {"a": "regex (1)", "b": "regex [1]", "c": "50% / *#!", "d": "r" * 300, "e": "règle 2"}


def grade(output, fields):
    return Grade(1.0, output, {"due (day)": 1.0}, None, RULES[fields["name (short)"]])


TASK = Task(
    name="own",
    asks="question",
    required_fields=("question", "name (short)"),
    target=lambda fields: "x",
    check=lambda fields: None,
    graders={"own": Grader("GRADER", 1, "right", grade)},
    default_grader="own",
)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that a task's module can be imported from; what was imported goes again."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for module in ("own_names", "own_grader"):
        sys.modules.pop(module, None)
    close_engine()


def test_rules_fields_and_columns_may_have_any_name(demo: ModelConfig, q8_0: ModelFile, folder: Path) -> None:
    assert q8_0.file_type == "MOSTLY_Q8_0"
    (folder / "own_names.py").write_text(OWN.replace("GRADER", "own"), encoding="utf-8")
    rows = "".join(f"Is it {name}?,{name}\n" for name in "abcde")
    (folder / "items.csv").write_text(f"question,short: name\n{rows}")
    words = PromptConfig(version=1, instructions="Answer.", item="Question: {question}")
    tracking = TrackingConfig(str(folder / "mlruns"), traces=True)
    config = Config(
        model=demo,
        quant=QuantConfig("Q8_0", "MOSTLY_Q8_0"),
        task=TaskConfig(name="own", module="own_names", prompt=words, grader="own", max_tokens=4),
        data=DataConfig("files", "files", path=str(folder / "items.csv"), columns={"name (short)": "short: name"}),
        engine=EngineConfig("llama_cpp", context=512, threads=1, lanes=4),
        tracking=tracking,
    )
    store = Store(tracking)
    with CompletionStore(folder / "completions") as known:
        assert run_job(config, store, known, None) == 1.0
    [run] = store.client.search_runs([store.experiment])
    assert run.info.status == "FINISHED"
    assert run.data.params["data.columns.name short"] == "short: name"
    rules = {name: count for name, count in run.data.metrics.items() if name.startswith("rule.")}
    assert rules == {"rule.regex 1": 2, "rule.50": 1, f"rule.{'r' * 100}": 1, "rule.règle 2": 1}


def test_a_grader_whose_name_cannot_be_one_of_files_and_metrics_is_refused_before_anything_runs(folder: Path) -> None:
    (folder / "own_grader.py").write_text(OWN.replace("GRADER", "own (v2)"), encoding="utf-8")
    with pytest.raises(UserError) as refused:
        get_task("own", "own_grader")
    assert str(refused.value) == (
        "task.module=own_grader has a grader with the name 'own (v2)', which cannot be the name of files and metrics: "
        "write letters, digits, - and _, at most 60 of them."
    )
