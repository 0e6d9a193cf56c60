"""Every command that README.md, docs/ and conf/ tell a reader to type is typed here, and works.

Jobs are made small by overrides at the end of the command. The Hub is a stand-in on this machine that has the
documented repositories at the documented revisions, with the embedded model's ladder in them; OpenAI is one too.
"""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from tests.emails.openai_server import OpenAIServer
from tests.forking import Ended, Forker
from tests.hub import Hub, publish_gsm8k, publish_triviaqa

from quantexp import models
from quantexp.config import ModelConfig, QuantConfig

ROOT = Path(__file__).parents[1]
LADDER = ("F16", "Q8_0", "Q5_K_M", "Q4_K_M", "Q3_K_M")
COMMANDS = ("aggregate", "regrade", "plan", "models", "store", "generate_extraction", "review_extraction")
MODULES = ["quantexp", *(f"quantexp.{name}" for name in COMMANDS)]

SMALL = ("data.limit=1", "task.limit=1", "task.max_tokens=6", "engine.threads=1", "stats.resamples=100")
"""What a command that runs jobs gets in addition."""

PLACES = {"RUN_ID", "NAME", "ME"}

THE_EXPERIMENT = ("python -m quantexp experiment=quant-cliff", "python -m quantexp experiment=quant-cliff-smoke")
"""Run by the test of docs/protocol.md and by tests/test_smoke.py."""


def commands(path: Path) -> list[str]:
    """The lines of a page that call quantexp, in their order."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r"(?:    |#.*? )(python -m quantexp.*?)(?:\s+#.*)?", line) for line in lines]
    return [match[1] for match in found if match]


def code(page: Path, language: str) -> dict[str, str]:
    """The code blocks of a language whose first line, a comment, names their file."""
    blocks = re.findall(rf"^```{language}\n# (\S+)\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return dict(blocks)


@pytest.fixture(scope="module")
def ladder(demo: ModelConfig) -> dict[str, Path]:
    return {quant: Path(models.resolve(demo, QuantConfig(quant, f"MOSTLY_{quant}"))[0].path) for quant in LADDER}


class Reader:
    """Somebody who types what a page says, in a folder of their own."""

    def __init__(self, folder: Path, forker: Forker, openai: OpenAIServer, cache: Path) -> None:
        self.folder, self._forker, self._openai, self._cache = folder, forker, openai, cache

    def type(self, command: str) -> Ended:
        """Run a command, made small, with what stands for the reader's own names replaced."""
        module, *arguments = shlex.split(command.removeprefix("python -m "))
        given = [self._meant(argument) for argument in arguments]
        match module:
            case "quantexp":
                given += [] if "--cfg" in given else [*SMALL, f"model.cache={self._cache}"]
            case "quantexp.models":
                given += [] if "list" in given or "verify" in given else [f"model.cache={self._cache}"]
            case "quantexp.aggregate":
                given += [] if "stats.resamples=50000" in given else ["stats.resamples=100"]
            case "quantexp.generate_extraction":
                given += [f"base_url={self._openai.address}", "items=3", "yes=true"]
            case "quantexp.review_extraction":
                (self.folder / "in.txt").write_text("a\na\na\n\n")
        return self._forker.run(self.folder, module, *given)

    def types_all(self, page: Path, *covered: str) -> list[str]:
        """Run all commands of a page but those that another test runs; what they are."""
        typed = [command for command in commands(page) if command not in covered]
        for command in typed:
            ended = self.type(command)
            assert ended.status == 0, f"{command}\n{ended.err}\n{ended.out}"
            assert "Traceback" not in ended.err, command
        return typed

    def _meant(self, argument: str) -> str:
        key, _, value = argument.partition("=")
        if key == "model.path":
            return f"model.path={self.folder}/{Path(value).name}"
        if value == "[RUN_ID,RUN_ID]":
            return f"runs=[{','.join(self._runs('job', 4)[::2])}]"
        if value == "RUN_ID":
            return f"sweep={self._runs('sweep', 1)[0]}"
        return argument.replace("NAME", "somebody") if value in PLACES else argument

    def _runs(self, kind: str, count: int) -> list[str]:
        """Ids of the latest finished runs of a kind."""
        client = mlflow.MlflowClient(f"sqlite:///{self.folder / 'mlruns' / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("quantexp")
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id], f"tags.`quantexp.kind` = '{kind}'")
        return [run.info.run_id for run in found if run.info.status == "FINISHED"][:count]


@pytest.fixture
def reader(tmp_path: Path, cache: Path, ladder: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    folder = tmp_path / "here"
    folder.mkdir()
    with Hub() as hub, OpenAIServer() as openai:
        publish_gsm8k(hub)
        publish_triviaqa(hub)
        for config in (ROOT / "conf" / "model").glob("*.yaml"):
            text = config.read_text()
            repository = re.search(r"^repository: (\S+/\S+)$", text, flags=re.MULTILINE)
            revision = re.search(r"^revision: (\w{40})$", text, flags=re.MULTILINE)
            if repository and revision:
                stem = repository[1].partition("/")[2].removesuffix("-GGUF")
                files = {f"{stem}-{quant}.gguf": path for quant, path in ladder.items()}
                hub.publish("model", repository[1], files, commit=revision[1])
        environment = hub.environment(tmp_path / "hf") | {
            "XDG_CACHE_HOME": str(cache),
            "COLUMNS": "100",
            "OPENAI_API_KEY": "sk-test",
        }
        forker = Forker(environment, *MODULES)
        yield Reader(folder, forker, openai, cache)
        forker.close()
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_the_readme(reader: Reader, ladder: dict[str, Path]) -> None:
    for quant, path in ladder.items():
        (reader.folder / f"my-{quant}.gguf").symlink_to(path)
    typed = reader.types_all(ROOT / "README.md", *THE_EXPERIMENT)
    assert len(typed) >= 15


def test_adding_a_model(reader: Reader, ladder: dict[str, Path]) -> None:
    page = ROOT / "docs" / "adding-a-model.md"
    for name, content in code(page, "yaml").items():
        (reader.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (reader.folder / name).write_text(content)
    for quant, path in ladder.items():
        (reader.folder / f"my-{quant}.gguf").symlink_to(path)
    assert len(reader.types_all(page)) >= 8


def test_adding_a_task(reader: Reader) -> None:
    page = ROOT / "docs" / "adding-a-task.md"
    for name, content in {**code(page, "yaml"), **code(page, "python")}.items():
        (reader.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (reader.folder / name).write_text(content)
    [items] = re.findall(r"^```json\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    (reader.folder / "capitals.jsonl").write_text(items)
    (reader.folder / "quiz.csv").write_text("prompt,answer,also_right\nWho?,Me,I\nWhat?,It,That\n")
    assert len(reader.types_all(page)) == 3


def test_on_a_cluster(reader: Reader) -> None:
    page = ROOT / "docs" / "cluster.md"
    elsewhere = [command for command in commands(page) if "hydra/launcher=joblib" not in command]
    assert len(reader.types_all(page, *elsewhere)) == 1
    # Run on real ones by tests/integration; Ray's plugin is not installed here.
    for command in elsewhere:
        if "hydra/launcher=slurm" in command:
            launcher = " ".join(word for word in command.split() if word.startswith("hydra"))
            ended = reader.type(f"python -m quantexp {launcher} --cfg hydra")
            assert ended.status == 0, f"{command}\n{ended.err}"
            assert "SlurmLauncher" in ended.out
    assert len(elsewhere) == 3


def test_the_protocol_and_the_experiment_it_describes(reader: Reader) -> None:
    typed = commands(ROOT / "docs" / "protocol.md")
    assert typed[0] == "python -m quantexp experiment=quant-cliff"
    # What the page says comes before the run.
    before = [command for command in typed if "extraction" in command or "models" in command]
    after = [command for command in typed if "aggregate" in command]
    for command in (*before, typed[0], *after):
        ended = reader.type(command)
        assert ended.status == 0, f"{command}\n{ended.err}\n{ended.out}"
    assert {command for command in typed if command not in {*before, *after, typed[0]}} == {
        "python -m quantexp experiment=quant-cliff-smoke"  # tests/test_smoke.py
    }
    assert len(reader._runs("job", 100)) == 36
    assert (reader.folder / "models" / "SHA256SUMS").read_text().count("Qwen2.5-7B-Instruct-Q") == 4
    assert "n=3 answers" in ended.out


def test_what_the_files_of_the_configuration_say(reader: Reader) -> None:
    named = [command for path in sorted((ROOT / "conf" / "model").glob("*.yaml")) for command in commands(path)]
    assert len(named) == 6
    for command in named:
        ended = reader.type(command)
        assert ended.status == 0, f"{command}\n{ended.err}"
    launchers = [ROOT / "conf" / "hydra" / "launcher" / f"{name}.yaml" for name in ("joblib", "slurm", "ray")]
    for path in launchers:
        assert f"hydra/launcher={path.stem} " in commands(path)[0]
    for path in sorted((ROOT / "conf" / "experiment").glob("*.yaml")):
        assert commands(path)[0] == f"python -m quantexp experiment={path.stem}"
