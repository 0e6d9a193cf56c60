"""`python -m quantexp` as a shell sees it: what it prints, its exit status, and what it leaves behind."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from importlib.metadata import entry_points, version
from io import StringIO
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf
from tests.support.composing import initialize_hydra
from tests.support.variants import mark_slow

import quantexp
from quantexp.comparison.results.words import is_override
from quantexp.config.command_line import COMMANDS
from quantexp.config.emails import register_schemas as register_emails
from quantexp.config.reference import SCHEMAS
from quantexp.tasks import TASKS
from quantexp.util.native.file_types import list_quants


class Shell:
    """Runs commands in an empty folder."""

    def __init__(self, folder: Path, cache: Path, command: Callable[..., tuple[int, str, str]]) -> None:
        self.folder = folder
        self._cache, self._command = cache, command

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
        return subprocess.run(
            command,
            cwd=self.folder,
            env=inherited | {"XDG_CACHE_HOME": str(self._cache)} | environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    def type(self, module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """As `run`, for a module of quantexp, in a process that need not import anything."""
        changed = {"HYDRA_FULL_ERROR": None} | environment
        files = self.folder.parent
        ended = self._command(self.folder, module, *arguments, environment=changed, files=files)
        return subprocess.CompletedProcess([module, *arguments], *ended)

    def left_behind(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))


@pytest.fixture
def shell(tmp_path: Path, cache: Path, command: Callable[..., tuple[int, str, str]]) -> Shell:
    folder = tmp_path / "here"
    folder.mkdir()
    return Shell(folder, cache, command)


QUANT_KEYS = "quant.name, quant.file_type, quant.method, quant.label, quant.bits_per_weight"
QUANTS = f"{', '.join(list_quants())}, as-is, awq, exl2, exl3, fp8, gptq"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("quant=nope", f"quant=nope: there is no such option; choose one of {QUANTS}."),
        ("-m quant=Q8_0,nope", f"quant=nope: there is no such option; choose one of {QUANTS}."),
        ("data=nop", "data=nop: there is no such option; choose one of bundled, files, hub, lm-eval."),
        (
            "task=nope",
            f"task=nope: there is no such option; choose one of {', '.join(sorted([*TASKS, 'lm-eval']))}.",
        ),
        ("task.limt=5", "task.limt: there is no such key; did you mean task.limit?"),
        ("--limit=5", "--limit=5: there is no such flag; keys are set without dashes, as in task.limit=20."),
        ("--verison", "--verison: there is no such flag; did you mean --version?"),
        ("-m --cfg job", "--multirun and --cfg cannot be had together: leave one of them out."),
        ("seed=1 --cfg job quant=Q8_0", "quant=Q8_0: keys stand together; put flags such as --cfg before all of them."),
        ("task.limit=abc", "task.limit=abc: a whole number is needed."),
        ("+quant.zzz=1", f"quant.zzz: there is no such key; choose one of {QUANT_KEYS}."),
        ("-m +quant.zzz=1", f"quant.zzz: there is no such key; choose one of {QUANT_KEYS}."),
        ("quant=Q8_0,Q4_K_M", "quant=Q8_0,Q4_K_M names several values; add -m to run a job for each of them."),
        (
            "quant=[Q8_0,Q4_K_M]",
            "quant=[Q8_0,Q4_K_M]: a job takes one option; leave out the brackets, and add -m for several jobs.",
        ),
        ("task.limit=0", "task.limit=0 is too small; it must be at least 1."),
        ("stats.confidence=1.5", "stats.confidence=1.5 must be at least 0.5 and at most 0.9999, such as 0.95."),
        ("seed=-1", "seed=-1 is too small; it must be at least 0."),
        ("-m seed=0,-1", "seed=-1 is too small; it must be at least 0."),
        ("experiment=demo seed=0,-1", "seed=-1 is too small; it must be at least 0."),
        (
            "-m quant=glob(Z*)",
            "This sweep has no jobs: a pattern such as glob(...) fits no option; --help lists the options.",
        ),
        (
            "task.limit=100000",
            "task.limit=100000 asks for more items than the 200 there are; lower it, or set task.limit=null for all.",
        ),
        (
            "-m task.grader=gsm8k,nope",
            "task.grader=nope: gsm8k has no such grader; choose one of gsm8k, gsm8k-first, gsm8k-strict, "
            "gsm8k-strict-first, lm-eval-flexible, lm-eval-strict.",
        ),
        ("model=local", "model=local needs model.path; add model.path=VALUE to the command."),
        (
            "model=local model.path=nope.gguf",
            "model.path=nope.gguf is not a file; give the path of a GGUF, absolute or relative to {folder}.",
        ),
        (
            "-m model=local model.path=${quant.name}.gguf quant=Q8_0,Q4_K_M",
            "model.path=Q8_0.gguf is not a file; give the path of a GGUF, absolute or relative to {folder}.",
        ),
    ],
)
def test_a_wrong_command_gets_one_sentence_and_runs_nothing(shell: Shell, words: str, said: str) -> None:
    ended = shell.type("quantexp", *words.split())
    assert ended.stderr == f"quantexp: {said.replace('{folder}', str(shell.folder))}\n"
    assert ended.stdout == ""
    assert ended.returncode == 2
    assert shell.left_behind() == []


@pytest.mark.parametrize("words", mark_slow(["quant=nope", "seed=-1", "-m seed=0,-1"], after=1))
def test_a_traceback_on_request(shell: Shell, words: str) -> None:
    ended = shell.type("quantexp", *words.split(), HYDRA_FULL_ERROR="1")
    assert ended.stderr.startswith("Traceback (most recent call last)")
    assert ended.returncode == 1
    assert shell.left_behind() == []


def test_what_would_run_is_shown_without_the_heavy_imports(shell: Shell) -> None:
    script = """
import sys
from quantexp.__main__ import main
sys.argv = ["quantexp", "--cfg", "job", "quant=Q4_K_M"]
main()
print("HEAVY", {"mlflow", "numpy", "pandas", "matplotlib", "llama_cpp", "scipy", "pyarrow"} & set(sys.modules))
"""
    ended = shell.run(sys.executable, "-c", script)
    assert ended.stderr == ""
    assert "name: Q4_K_M" in ended.stdout
    *_, reader, heavy = ended.stdout.splitlines()
    assert re.fullmatch(r"# model.reasoning: auto reads as none, from the chat template of \S+\.gguf", reader)
    assert heavy == "HEAVY set()"
    assert shell.left_behind() == []


SERVER = "engine=openai engine.url=http://127.0.0.1:9/v1 model=server model.name=mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("model.chat_template=mine.jinja", "auto reads as think, from the chat template of mine.jinja"),
        ("model.reasoning=think", None),
        (
            "model=hub model.repository=a/b-GGUF model.folder=here",
            "auto is known once the file is downloaded; then python -m quantexp.models inspect here/a/b-GGUF/FILE "
            "says it too",
        ),
        (
            "model=local model.name=mine model.path=${task.name}.gguf",
            "auto is not known yet: model.path=gsm8k.gguf is not a file; give the path of a GGUF, absolute or relative "
            "to {folder}.",
        ),
        (
            SERVER,
            "auto takes the reasoning that the server sends apart, and reads as think what it leaves in an answer",
        ),
    ],
)
def test_a_shown_job_says_how_its_reasoning_is_read(shell: Shell, words: str, said: str | None) -> None:
    (shell.folder / "mine.jinja").write_text("{{ messages[0].content }}<think>")
    ended = shell.type("quantexp", "--cfg", "job", *words.split())
    assert ended.returncode == 0, ended.stderr
    comments = [line for line in ended.stdout.splitlines() if line.startswith("#")]
    assert comments == ([f"# model.reasoning: {said.format(folder=shell.folder)}"] if said else [])
    assert OmegaConf.create(ended.stdout).model.reasoning == ("auto" if said else "think")


WITHOUT_KEYS = {"quantexp.models", "quantexp.doctor", "quantexp.build_llama"}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_a_command_does_and_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["", "--help"])
    monkeypatch.setenv("COLUMNS", "300")
    is_package = name in {"quantexp", "quantexp.models", "quantexp.store"}
    module = import_module(f"{name}.__main__" if is_package else name)
    with redirect_stdout(StringIO()) as page, pytest.raises(SystemExit) as left:
        module.main()
    assert left.value.code == 0
    said = page.getvalue()
    assert f"usage: python -m {name} " in said
    assert "__main__" not in said
    assert "Hydra" not in said
    if name in WITHOUT_KEYS:
        return
    assert COMMANDS[name].purpose in said
    assert said.count(f"\n  python -m {name} ") >= len([each for each in COMMANDS[name].examples if each])
    for other in COMMANDS.values():
        assert other is COMMANDS[name] or other.purpose in said
    stem = name.removeprefix("quantexp.") if name != "quantexp" else "config"
    structured = OmegaConf.to_container(OmegaConf.structured(SCHEMAS[stem]))
    assert isinstance(structured, dict)
    for key in map(str, structured):
        assert re.search(rf"^{key}[.=]", said, flags=re.MULTILINE), key
    assert ("quant=OPTION" in said) == (name == "quantexp")
    assert not re.search(" $", said, flags=re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in WITHOUT_KEYS])
def test_examples_of_help_can_be_typed(name: str) -> None:
    register_emails()
    with initialize_hydra():
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        for example in COMMANDS[name].examples:
            overrides = [each for each in shlex.split(example) if each != "-m"]
            stem = name.removeprefix("quantexp.") if name != "quantexp" else "config"
            if stem in ("compare", "reproduce"):
                overrides = [each for each in overrides if is_override(each, SCHEMAS[stem])]
            hydra.compose_config(stem, overrides, run_mode=RunMode.MULTIRUN, from_shell=False)


def test_every_command_tells_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["", "--version"])
    for module in ("quantexp.__main__", "quantexp.plan", "quantexp.doctor", "quantexp.models.__main__"):
        with redirect_stdout(StringIO()) as page, pytest.raises(SystemExit) as left:
            import_module(module).main()
        assert left.value.code == 0
        assert page.getvalue().startswith(f"quantexp {quantexp.__version__}, llama-cpp-python ")
    assert quantexp.__version__ == version("quantexp")


def test_the_installed_command_is_the_module(shell: Shell) -> None:
    (script,) = entry_points(group="console_scripts", name="quantexp")
    assert script.value == "quantexp.__main__:main"
    ended = shell.run(str(Path(sys.executable).with_name("quantexp")), "quant=nope")
    assert ended.stderr == f"quantexp: quant=nope: there is no such option; choose one of {QUANTS}.\n"
    assert ended.returncode == 2


def test_a_wrong_aggregation_gets_one_sentence(shell: Shell) -> None:
    ended = shell.type("quantexp.aggregate", "stats.confidence=1.5")
    assert ended.stderr == "quantexp: stats.confidence=1.5 must be at least 0.5 and at most 0.9999, such as 0.95.\n"
    assert ended.returncode == 2


def test_bash_completes_options_and_keys(shell: Shell) -> None:
    lines = {
        "quantexp quant=Q5": "quant=Q5_0 quant=Q5_1 quant=Q5_K_M quant=Q5_K_S",
        "quantexp -m quant=Q8_0 task.li": "task.limit=",
    }
    # What bash does at the tab key: it calls the function that `complete` names, with the line in these variables.
    script = """
eval "$(quantexp --shell-completion install=bash)"
function=$(complete -p quantexp | sed 's/.*-F \\([^ ]*\\).*/\\1/')
for line in "$@"; do
    COMP_LINE=$line COMP_POINT=${#line} COMP_WORDS=($line) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    $function quantexp
    echo "${COMPREPLY[@]}"
done
"""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = shell.run("bash", "--norc", "-c", script, "bash", *lines, PATH=path)
    assert (ended.stdout.splitlines(), ended.stderr) == ([*lines.values()], "")
    assert shell.left_behind() == []
