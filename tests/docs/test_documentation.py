"""Every command that README.md, docs/ and conf/ tell a reader to type is typed here, and works.

All of them take long, so most of the tests are slow; the others compose them all, and type one of each kind of page.

Jobs are made small by overrides at the end of the command. The Hub is a stand-in on this machine that has the
documented repositories at the documented revisions; OpenAI is one too. The files there, and in the package of the
embedded model, are of a model of random weights: what it answers is of no interest here.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mlflow
import pytest
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from mlflow.entities import Run
from tests.support.copies import copied
from tests.support.forking import Ended, Forker
from tests.support.hub import Hub, publish_gsm8k, publish_humaneval, publish_triviaqa
from tests.support.judges import answer_as_judge
from tests.support.openai_server import OpenAIServer, chat, good
from tests.support.openai_server import models as listed
from tests.support.small_models import find_small_model
from tests.support.tracking_servers import TrackingServer
from tests.support.variants import mark_slow
from tests.support.vllm_server import answer_by

from quantexp import models
from quantexp.comparison.results.words import is_override
from quantexp.config import ModelConfig, QuantConfig
from quantexp.config.composition import compose_jobs
from quantexp.config.emails import register_schemas as register_emails
from quantexp.config.hydra_schemas import register_schemas
from quantexp.config.reference import CONF, SCHEMAS
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.registry import check_engine
from quantexp.models import ModelFile
from quantexp.tracking.tags import PAIR

ROOT = Path(__file__).parents[2]
LADDER = ("F16", "Q8_0", "Q5_K_M", "Q4_K_M", "Q3_K_M")
COMMANDS = (
    *("aggregate", "compare", "export", "gate", "pick", "regrade", "reproduce", "plan", "models", "store", "sync"),
    "doctor",
    *("generate_extraction", "review_extraction"),
)
MODULES = ["quantexp", *(f"quantexp.{name}" for name in COMMANDS)]

SMALL = (
    *("data.limit=1", "task.limit=1", "task.shots=0", "task.max_tokens=6"),
    *("engine.threads=1", "engine.floor=false", "stats.resamples=100", "model.sha256=null"),
)
"""What a command that runs jobs gets in addition, unless it says something about it itself; its `task.limit` goes."""

PLACES = {"RUN_ID", "NAME", "ME"}

DOCS = ROOT / "docs"

IN_ONE_FOLDER = (
    (
        DOCS / "tutorial.md",
        ROOT / "README.md",
        DOCS / "index.md",
        DOCS / "reference" / "commands.md",
        DOCS / "how-to" / "read-report.md",
        DOCS / "how-to" / "regrade.md",
        DOCS / "how-to" / "trouble.md",
        DOCS / "reference" / "tasks.md",
        DOCS / "reference" / "models.md",
    ),
    (
        DOCS / "how-to" / "gpu.md",
        DOCS / "how-to" / "conditions.md",
        DOCS / "how-to" / "kv-cache.md",
        DOCS / "how-to" / "plan.md",
        DOCS / "how-to" / "pool.md",
        DOCS / "explanation" / "divergence.md",
        DOCS / "how-to" / "perplexity.md",
        DOCS / "explanation" / "exactness.md",
        DOCS / "explanation" / "statistics.md",
        DOCS / "reference" / "configuration.md",
    ),
)
"""Pages that one reader reads, one after the other: what an earlier command has left is there for a later one."""

BY_ITSELF = {
    DOCS / "how-to" / "compare-results.md",
    DOCS / "how-to" / "gate.md",
    DOCS / "how-to" / "pick.md",
    DOCS / "how-to" / "publish.md",
    DOCS / "how-to" / "judge.md",
    DOCS / "how-to" / "own-ggufs.md",
    DOCS / "how-to" / "folder.md",
    DOCS / "how-to" / "publishers.md",
    DOCS / "how-to" / "hub-models.md",
    DOCS / "how-to" / "multiple-choice.md",
    DOCS / "how-to" / "instructions.md",
    DOCS / "how-to" / "languages.md",
    DOCS / "how-to" / "code.md",
    DOCS / "how-to" / "tools.md",
    DOCS / "how-to" / "own-data.md",
    DOCS / "how-to" / "lm-eval.md",
    DOCS / "how-to" / "own-task.md",
    DOCS / "how-to" / "cluster.md",
    DOCS / "how-to" / "several-machines.md",
    DOCS / "how-to" / "servers.md",
    DOCS / "how-to" / "tracking-server.md",
    DOCS / "explanation" / "protocol.md",
}
"""Pages that need something to be there first, or another place; each has a test of its own."""

COMPOSED = {DOCS / "how-to" / "long-context.md": 10, DOCS / "how-to" / "reasoning.md": 15}
"""Pages whose commands need a model that reasons, or reads long texts, for which nothing stands here: they are composed
and checked; with the number of their jobs."""

THE_EXPERIMENT = (
    "python -m quantexp experiment=quant-cliff",
    "python -m quantexp experiment=quant-cliff-smoke",
    "python -m quantexp experiment=everyday",
)
"""Run by the test of docs/explanation/protocol.md and by tests/sweep/test_smoke.py and test_experiments.py."""

COMPILING = "python -m quantexp.build_llama"
"""Run by tests/test_build_llama.py, with a stand-in for pip."""


def commands(path: Path) -> list[str]:
    """What a page says to type, in its order: its lines, and its words, that call quantexp."""
    text = path.read_text(encoding="utf-8")
    line, word = r"^(?:    |#.*? )(python -m quantexp.*?)(?:[ \t]+#.*)?$", r"`(python -m quantexp[^`]*)`"
    found = re.finditer(f"{line}|{word}", text, flags=re.MULTILINE)
    return [match[1] or match[2] for match in found]


def code(page: Path, language: str) -> dict[str, str]:
    """The code blocks of a language whose first line, a comment, names their file."""
    blocks = re.findall(rf"^```{language}\n# (\S+)\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return dict(blocks)


@pytest.fixture(scope="module")
def small(q8_0: ModelFile, cache: Path) -> Path:
    return find_small_model(cache, q8_0.path)


@pytest.fixture(scope="module")
def ladder(small: Path, cache: Path) -> dict[str, Path]:
    model = ModelConfig("small", "path", path=str(small), quantize=True, cache=str(cache))
    return {quant: Path(models.resolve(model, QuantConfig(quant, f"MOSTLY_{quant}"))[0].path) for quant in LADDER}


@pytest.fixture(scope="module")
def packages(demo: ModelConfig, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of Python packages with one for the embedded model's."""
    assert demo.package
    assert demo.file
    package = tmp_path_factory.mktemp("packages") / demo.package
    package.mkdir()
    (package / "__init__.py").touch()
    (package / demo.file).symlink_to(small)
    return package.parent


class Reader:
    """Somebody who types what a page says, in a folder of their own."""

    def __init__(self, folder: Path, forker: Forker, openai: OpenAIServer, cache: Path) -> None:
        self.folder, self._forker, self.openai, self._cache = folder, forker, openai, cache
        self.tracking_server = ""
        self._typed: set[str] = set()

    def type(self, command: str) -> Ended:
        """Run a command, made small, with what stands for the reader's own names replaced."""
        module, *arguments = shlex.split(command.removeprefix("python -m "))
        given = [self._meant(argument) for argument in arguments]
        match module:
            case "quantexp":
                asked = {each.partition("=")[0] for each in given} - {"task.limit"}
                small = [each for each in SMALL if each.partition("=")[0] not in asked]
                given += [] if "--cfg" in given else [*small, f"model.cache={self._cache}"]
                if "engine=openai" in given:
                    given.remove("engine.threads=1")  # a server has its own
            case "quantexp.models":
                given += [] if {"list", "verify", "inspect"} & set(given) else [f"model.cache={self._cache}"]
            case "quantexp.doctor":
                given += ["--quick"]
            case "quantexp.aggregate":
                given += [] if "stats.resamples=50000" in given else ["stats.resamples=100"]
            case "quantexp.generate_extraction":
                given += [f"base_url={self.openai.address}", "items=3", "yes=true"]
            case "quantexp.review_extraction":
                (self.folder / "in.txt").write_text("a\na\na\n\n")
        return self._forker.run(self.folder, module, *given)

    def types_all(self, page: Path, *covered: str) -> list[str]:
        """Run all commands of a page but those that another test runs, or that were run here before; all but those."""
        typed = [command for command in commands(page) if command not in covered]
        self.files_of(page)
        for command in typed:
            if command in self._typed:
                continue
            self._typed.add(command)
            ended = self.type(command)
            assert ended.status == 0, f"{command}\n{ended.err}\n{ended.out}"
            assert "Traceback" not in ended.err, command
        return typed

    def files_of(self, page: Path) -> None:
        """Write the files that a page shows."""
        for name, content in {**code(page, "yaml"), **code(page, "python")}.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(content)

    def has_ggufs(self, ladder: dict[str, Path]) -> None:
        """Have a file for each quant."""
        for quant, path in ladder.items():
            (self.folder / f"my-{quant}.gguf").symlink_to(path)

    def _meant(self, argument: str) -> str:
        key, _, value = argument.partition("=")
        if key in {"model.path", "model.checkpoint"}:
            return f"{key}={self.folder}/{Path(value).name}"
        if key in {"engine.url", "engine.urls", "judge.engine.url"}:
            return re.sub(r"http://127\.0\.0\.1:\d+/v1", self.openai.address, argument)
        if key == "tracking.uri":
            return f"{key}={self.tracking_server}"
        if key == "store.folder":
            return f"store.folder={self.folder.parent}{value}"
        if value == "[RUN_ID,RUN_ID]":
            return f"runs=[{','.join(self._pair())}]"
        if value == "RUN_ID":
            return f"sweep={self._finished('sweep')[0].info.run_id}"
        return argument.replace("NAME", "somebody") if value in PLACES else argument

    def _pair(self) -> tuple[str, str]:
        """Ids of the baseline's latest run and of another quant's that can be compared with it."""
        jobs = [run for run in self._finished("job") if PAIR in run.data.tags]
        baselines = {run.data.tags[PAIR]: run for run in reversed(jobs) if run.data.tags["quant"] == "Q8_0"}
        other = next(run for run in jobs if run.data.tags["quant"] != "Q8_0" and run.data.tags[PAIR] in baselines)
        return baselines[other.data.tags[PAIR]].info.run_id, other.info.run_id

    def _finished(self, kind: str) -> list[Run]:
        """Finished runs of a kind, the latest first."""
        client = mlflow.MlflowClient(f"sqlite:///{self.folder / 'mlruns' / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("quantexp")
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id], f"tags.`quantexp.kind` = '{kind}'")
        return [run for run in found if run.info.status == "FINISHED"]


@pytest.fixture(scope="module")
def world(
    cache: Path, ladder: dict[str, Path], packages: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Forker, OpenAIServer]]:
    """What stands for the rest of the world, and what starts commands in it."""
    with Hub() as hub, OpenAIServer() as openai:
        publish_gsm8k(hub)
        publish_triviaqa(hub)
        publish_humaneval(hub)
        for config in (ROOT / "conf" / "model").glob("*.yaml"):
            text = config.read_text()
            repository = re.search(r"^repository: (\S+/\S+)$", text, flags=re.MULTILINE)
            revision = re.search(r"^revision: (\w{40}|main)$", text, flags=re.MULTILINE)
            if repository and revision:
                stem = repository[1].partition("/")[2].removesuffix("-GGUF")
                files = {f"{stem}-{quant}.gguf": path for quant, path in ladder.items()}
                hub.publish("model", repository[1], files, commit=None if revision[1] == "main" else revision[1])
        small = "Qwen2.5-1.5B-Instruct"
        hub.publish("model", f"unsloth/{small}-GGUF", {f"{small}-UD-Q4_K_XL.gguf": ladder["Q3_K_M"]})
        home = tmp_path_factory.mktemp("hf")
        environment = hub.environment(home) | {
            "XDG_CACHE_HOME": str(cache),
            "COLUMNS": "100",
            "OPENAI_API_KEY": "sk-test",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(packages), os.environ.get("PYTHONPATH")])),
        }
        with closing(Forker(environment, *MODULES)) as forker:
            yield forker, openai
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def reader(tmp_path: Path, cache: Path, world: tuple[Forker, OpenAIServer]) -> Iterator[Reader]:
    folder = tmp_path / "here"
    folder.mkdir()
    world[1].answer, world[1].pages = good, {}  # whatever another page's test has had it say
    yield Reader(folder, *world, cache)
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def beginner(tmp_path: Path, cache: Path, forker: Forker) -> Iterator[Reader]:
    """A reader with nothing of the rest of the world."""
    folder = tmp_path / "here"
    folder.mkdir()
    with OpenAIServer() as openai:
        yield Reader(folder, forker, openai, cache)


def test_a_command_of_each_kind_of_page(beginner: Reader, swept: Path) -> None:
    copied(swept, beginner.folder)
    for page, module in {
        ROOT / "README.md": "quantexp.aggregate",
        DOCS / "how-to" / "regrade.md": "quantexp.regrade",
        DOCS / "explanation" / "statistics.md": "quantexp.plan",
        DOCS / "reference" / "commands.md": "quantexp",
    }.items():
        command = next(each for each in commands(page) if each.split()[2] == module)
        ended = beginner.type(command)
        assert ended.status == 0, f"{command}\n{ended.err}"


@pytest.mark.slow  # tests/evaluation/test_judging.py asks one
def test_a_judge_behind_a_server(beginner: Reader, swept: Path) -> None:
    copied(swept, beginner.folder)
    beginner.openai.answer = answer_as_judge(noise=0.05, position=0.05)
    beginner.openai.pages = listed("somebody")
    ended = beginner.type(commands(DOCS / "how-to" / "judge.md")[0])
    assert ended.status == 0, ended.err
    assert "triviaqa has no grader requested-action-judge: left out (2 jobs)" in ended.err
    [report] = beginner.folder.glob("multirun/*/*-regrade/report/report.md")
    text = report.read_text()
    assert "Verdicts are of the judge somebody (somebody of http://" in text
    assert "kappa 0." in text
    assert "noise floor: " in text


@pytest.mark.slow  # some two hundred
def test_every_command_can_be_composed() -> None:
    register_schemas()
    register_emails()
    pages = (ROOT / "README.md", *DOCS.rglob("*.md"), *CONF.rglob("*.yaml"))
    typed = {command for page in pages for command in commands(page)}
    composed = 0
    with initialize_config_module("quantexp.conf", version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        for command in sorted(typed):
            module, *arguments = shlex.split(command.removeprefix("python -m "))
            name = module.partition(".")[2] or "config"
            # A group of the reader's own; a plugin that is not installed here.
            if name in SCHEMAS and not {"--config-dir", "hydra/launcher=ray"} & set(arguments):
                overrides = [each for each in arguments if "=" in each]
                if name in {"compare", "gate"}:
                    overrides = [each for each in overrides if is_override(each, SCHEMAS[name])]
                hydra.compose_config(name, overrides, run_mode=RunMode.MULTIRUN, from_shell=False)
                composed += 1
    assert composed > 50


@pytest.mark.slow
@pytest.mark.parametrize("pages", IN_ONE_FOLDER, ids=["front", "planning"])
def test_pages_that_are_read_in_one_place(reader: Reader, ladder: dict[str, Path], pages: tuple[Path, ...]) -> None:
    reader.has_ggufs(ladder)
    (reader.folder / "quiz.csv").write_text("prompt,answer\nWho?,Me\nWhat?,It\n")
    (reader.folder / "wiki.test.raw").write_text("The harbour wakes before the town does. " * 100)
    for page in pages:
        assert reader.types_all(page, *THE_EXPERIMENT, COMPILING), f"{page.name} has nothing to type; leave it out"


def test_every_page_with_commands_is_read() -> None:
    pages = {page for page in (ROOT / "README.md", *DOCS.rglob("*.md")) if commands(page)}
    assert pages == BY_ITSELF.union(COMPOSED, *IN_ONE_FOLDER)


@pytest.mark.parametrize("page", mark_slow([*COMPOSED], after=1), ids=lambda page: page.stem)
def test_pages_that_need_another_model(beginner: Reader, swept: Path, page: Path) -> None:
    copied(swept, beginner.folder)
    register_schemas()
    jobs = 0
    for command in commands(page):
        module, *arguments = shlex.split(command.removeprefix("python -m "))
        if module == "quantexp.regrade" or "--cfg" in arguments:
            ended = beginner.type(command)
            assert ended.status == 0, f"{command}\n{ended.err}"
            continue
        overrides = [argument for argument in arguments if argument != "-m"]
        with initialize_config_module("quantexp.conf", version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            composed = hydra.compose_config("config", overrides, run_mode=RunMode.MULTIRUN, from_shell=False)
            for job in compose_jobs(composed):
                check_engine(job)
                assert page.stem != "reasoning" or job.model.reasoning_tokens == 8192
                jobs += 1
    assert jobs == COMPOSED[page]


@pytest.mark.slow
def test_your_own_ggufs(reader: Reader, ladder: dict[str, Path]) -> None:
    reader.has_ggufs(ladder)
    assert len(reader.types_all(DOCS / "how-to" / "own-ggufs.md")) == 5


@pytest.mark.slow
def test_the_files_of_a_folder(reader: Reader, ladder: dict[str, Path]) -> None:
    (reader.folder / "qwen3-8b").mkdir()
    for quant, path in {**ladder, "UD-Q4_K_XL": ladder["Q3_K_M"]}.items():
        (reader.folder / "qwen3-8b" / f"Qwen3-8B-{quant}.gguf").symlink_to(path)
    assert len(reader.types_all(DOCS / "how-to" / "folder.md")) == 3


@pytest.mark.slow
def test_publishers(reader: Reader) -> None:
    assert len(reader.types_all(DOCS / "how-to" / "publishers.md")) == 2


@pytest.mark.slow
def test_models_of_the_hub(reader: Reader) -> None:
    assert len(reader.types_all(DOCS / "how-to" / "hub-models.md")) >= 6


@pytest.mark.slow
def test_your_own_data(reader: Reader) -> None:
    (reader.folder / "quiz.csv").write_text("prompt,answer,also_right\nWho?,Me,I\nWhat?,It,That\n")
    assert len(reader.types_all(DOCS / "how-to" / "own-data.md")) == 3


@pytest.mark.slow
def test_multiple_choice(reader: Reader) -> None:
    item = {"question": "Which animal gives us wool?", "choices": ["a sheep", "a frog"], "answer": "A"}
    (reader.folder / "quiz.jsonl").write_text(json.dumps(item) + "\n")
    assert len(reader.types_all(DOCS / "how-to" / "multiple-choice.md")) == 3


@pytest.mark.slow
def test_eight_languages(reader: Reader) -> None:
    assert len(reader.types_all(DOCS / "how-to" / "languages.md")) == 2


@pytest.mark.slow
def test_instructions(reader: Reader) -> None:
    page = DOCS / "how-to" / "instructions.md"
    for name, content in code(page, "text").items():
        (reader.folder / name).write_text(content)
    assert len(reader.types_all(page)) == 2


@pytest.mark.slow
def test_code(reader: Reader) -> None:
    item = {
        "prompt": 'def f(x):\n    """Return x."""',
        "function": "f",
        "solution": "    return x",
        "tests": [[[1], 1]],
    }
    (reader.folder / "functions.jsonl").write_text(json.dumps(item) + "\n")
    assert len(reader.types_all(DOCS / "how-to" / "code.md")) == 5


@pytest.mark.slow
def test_calls_of_functions(reader: Reader) -> None:
    function = {
        "name": "a.b",
        "parameters": {"type": "dict", "properties": {"x": {"type": "float"}}, "required": ["x"]},
    }
    rows = [(f"multiple_{number}", f"Do a.b with {number}.") for number in range(2)]
    question = [
        {"id": each, "question": [[{"role": "user", "content": text}]], "function": [function]} for each, text in rows
    ]
    answers = [{"id": each, "ground_truth": [{"a.b": {"x": [1.0]}}]} for each, _ in rows]
    (reader.folder / "possible_answer").mkdir()
    for folder, lines in ((reader.folder, question), (reader.folder / "possible_answer", answers)):
        (folder / "BFCL_v4_multiple.json").write_text("\n".join(map(json.dumps, lines)))
    assert len(reader.types_all(DOCS / "how-to" / "tools.md")) == 2


@pytest.mark.slow
def test_a_release_gate(reader: Reader) -> None:
    page = DOCS / "how-to" / "gate.md"
    policies = reader.folder / "release" / "policy"
    policies.mkdir(parents=True)
    [policy, *_] = re.findall(r"^```yaml\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    (policies / "strict.yaml").write_text(policy)
    sweep, *gates = [command for command in commands(page) if "results/" not in command]
    assert reader.type(sweep).status == 0
    # One item cannot tell; tests/test_gate.py has the other exit statuses, and the pipelines.
    assert {reader.type(gate).status for gate in gates} <= {1, 3}


@pytest.mark.slow
def test_a_pick(reader: Reader) -> None:
    for command in commands(DOCS / "how-to" / "pick.md"):
        is_pick = command.split()[2] == "quantexp.pick"
        # One item is certain of nothing but the baseline, which may not write ten tokens a second here.
        assert reader.type(command).status in ((0, 1, 3) if is_pick else (0,)), command


@pytest.mark.slow
def test_publishing(reader: Reader, ladder: dict[str, Path]) -> None:
    (reader.folder / "my-ggufs").mkdir()
    for quant in ("Q8_0", "Q3_K_M"):
        (reader.folder / "my-ggufs" / f"Mine-{quant}.gguf").symlink_to(ladder[quant])
    sweep, export, again = commands(DOCS / "how-to" / "publish.md")
    for command in (sweep, export):
        ended = reader.type(command)
        assert ended.status == 0, f"{command}\n{ended.err}"
    shutil.copy(reader.folder / "export" / "results.json", reader.folder)
    ended = reader.type(f"{again} threads=1")
    assert ended.status == 0, f"{again}\n{ended.err}\n{ended.out}"
    assert ended.out.count("to the byte") == 4


@pytest.mark.slow
def test_a_task_of_your_own(beginner: Reader) -> None:
    page = DOCS / "how-to" / "own-task.md"
    [items] = re.findall(r"^```json\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    (beginner.folder / "capitals.jsonl").write_text(items)
    assert len(beginner.types_all(page)) == 2


@pytest.mark.slow
def test_a_tracking_server(reader: Reader) -> None:
    (reader.folder / "server").mkdir()
    with TrackingServer(reader.folder / "server") as server:
        reader.tracking_server = server.url
        assert len(reader.types_all(DOCS / "how-to" / "tracking-server.md")) == 4
        assert len(server.runs("job")) == 2


@pytest.mark.slow
def test_several_machines(reader: Reader) -> None:
    page = DOCS / "how-to" / "several-machines.md"
    *alone, together = commands(page)
    here = reader.folder
    for machine, command in enumerate((*alone, together)):
        reader.folder = here.with_name(f"machine-{machine}")  # its own runs; of all that it shares only the answers
        reader.folder.mkdir()
        ended = reader.type(command)
        assert ended.status == 0, f"{command}\n{ended.err}"
    jobs = [run.data.metrics for run in reader._finished("job")[:10]]
    assert [metrics["run.completions_generated"] for metrics in jobs] == [0, 0]

    # The scheduler's script, in the shell that it is for; what it would start is started here.
    [script] = re.findall(r"^```bash\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    environment = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_CPUS_PER_TASK": "1", "TMPDIR": str(reader.folder)}
    says = 'python() { printf "python"; printf " %q" "$@"; }\n' + script
    meant = subprocess.run(["bash", "-eu", "-c", says], env=environment, capture_output=True, text=True, check=True)
    ended = reader.type(meant.stdout)
    assert ended.status == 0, f"{meant.stdout}\n{ended.err}"
    assert "Q4_K_M gsm8k seed 0" in ended.err


def test_results_of_another_harness(beginner: Reader) -> None:
    page, data = DOCS / "how-to" / "compare-results.md", ROOT / "tests" / "comparison" / "results" / "data"
    for name in ("base", "q4"):
        shutil.copytree(data / "lm_eval" / name, beginner.folder / "results" / name)
        shutil.copytree(data / "inspect" / name, beginner.folder / "logs" / name)
    for name, wrong in (("base", 1), ("q5", 2), ("q4", 3)):
        rows = [f"{n},{n},{int(n > wrong)},{int(n > wrong)}" for n in range(20)]
        (beginner.folder / f"{name}.csv").write_text("\n".join(["id,question_number,points,score", *rows]))
    has_inspect = find_spec("inspect_ai") is not None
    of_inspect = [] if has_inspect else [command for command in commands(page) if "logs/" in command]
    assert len(beginner.types_all(page, *of_inspect)) >= 5
    [shown] = re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(shown, str(page), "exec"), names)
    assert names["result"].comparisons["verdict"].tolist() == ["worse"]


def test_what_python_is_shown_runs(capsys: pytest.CaptureFixture[str]) -> None:
    for page in (DOCS / "reference" / "stats.md", DOCS / "explanation" / "statistics.md"):
        [shown] = re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        exec(compile(shown, str(page), "exec"), {})
    assert capsys.readouterr().out.startswith("0.0 (")


@pytest.mark.slow
def test_servers(reader: Reader, engine: LlamaCpp) -> None:
    bf16: dict[str, Any] = {"l.weight": {"dtype": "BF16", "shape": [32, 8], "data_offsets": [0, 512]}}
    awq: dict[str, Any] = {
        "l.qweight": {"dtype": "I32", "shape": [32, 1], "data_offsets": [0, 128]},
        "l.scales": {"dtype": "F16", "shape": [1, 8], "data_offsets": [128, 144]},
    }
    for quant, header in (("BF16", bf16), ("awq", awq)):
        folder = reader.folder / f"my-model-{quant}"
        folder.mkdir()
        content = json.dumps(header).encode()
        size = max(entry["data_offsets"][1] for entry in header.values())
        (folder / "model.safetensors").write_bytes(len(content).to_bytes(8, "little") + content + bytes(size))
    (reader.folder / "wiki.test.raw").write_text("The harbour wakes before the town does. " * 100)
    by_model = answer_by(engine)
    reader.openai.answer = lambda asked: chat() if "messages" in asked else by_model(asked)
    reader.openai.pages = listed("my-model")
    assert len(reader.types_all(DOCS / "how-to" / "servers.md")) == 5


@pytest.mark.slow
def test_on_a_cluster(reader: Reader) -> None:
    page = DOCS / "how-to" / "cluster.md"
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


@pytest.mark.slow
def test_the_protocol_and_the_experiment_it_describes(reader: Reader) -> None:
    typed = commands(DOCS / "explanation" / "protocol.md")
    assert typed[0] == "python -m quantexp experiment=quant-cliff"
    # What the page says comes before the run.
    before = [command for command in typed if "extraction" in command or "models" in command]
    after = [command for command in typed if "aggregate" in command or "regrade" in command]
    for command in (*before, f"{typed[0]} seed=0", *after):  # its three seeds are run by tests/sweep/test_smoke.py
        ended = reader.type(command)
        assert ended.status == 0, f"{command}\n{ended.err}\n{ended.out}"
    assert {command for command in typed if command not in {*before, *after, typed[0]}} == {
        "python -m quantexp experiment=quant-cliff-smoke",  # tests/sweep/test_smoke.py
        "python -m quantexp experiment=quant-cliff-2",  # tests/sweep/test_experiments.py
    }
    assert len(reader._finished("job")[:100]) == 12
    assert (reader.folder / "models" / "SHA256SUMS").read_text().count("Qwen2.5-7B-Instruct-Q") == 4
    assert "n=1 answers" in ended.out


@pytest.mark.slow
def test_tasks_of_the_harness(beginner: Reader) -> None:
    pytest.importorskip("lm_eval")
    page = DOCS / "how-to" / "lm-eval.md"
    for name, text in code(page, "text").items():
        (beginner.folder / name).parent.mkdir(exist_ok=True)
        (beginner.folder / name).write_text(text)
    [on_code] = [command for command in commands(page) if "humaneval" in command]  # whose data are on the Hub
    assert len(beginner.types_all(page, on_code)) == 2


@pytest.mark.slow
def test_what_the_files_of_the_configuration_say(reader: Reader) -> None:
    # One of each kind of repository and revision; tests/config/test_model_options.py looks at the command of each.
    for option in ("gemma-2-9b-it", "gemma-4-e2b-it", "qwen3-30b-a3b"):
        [command] = commands(ROOT / "conf" / "model" / f"{option}.yaml")
        ended = reader.type(command)
        assert ended.status == 0, f"{command}\n{ended.err}"
    launchers = [ROOT / "conf" / "hydra" / "launcher" / f"{name}.yaml" for name in ("joblib", "slurm", "ray")]
    for path in launchers:
        assert f"hydra/launcher={path.stem} " in commands(path)[0]
    for path in sorted((ROOT / "conf" / "experiment").glob("*.yaml")):
        assert commands(path)[0] == f"python -m quantexp experiment={path.stem}"
