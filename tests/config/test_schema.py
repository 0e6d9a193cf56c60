"""Everything under conf/ composes, fits its types, and means what a user expects of it on the command line."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, make_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Ge, Gt, Le, Lt
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ValidationError
from tests.support.composing import compose_job, compose_sweep, initialize_hydra

from quantexp.config import AggregateConfig, Config
from quantexp.config.choices import FlashAttention
from quantexp.config.composition import compose_jobs
from quantexp.config.fingerprint import config_fingerprint, pair_fingerprint
from quantexp.config.ranges import find_range_problems, range_in_words
from quantexp.config.validation import validated
from quantexp.engines.registry import check_engine
from quantexp.tasks import TASKS, get_task
from quantexp.util.errors import UserError

CONF = Path(str(files("quantexp.conf")))
GROUPS = [field.name for field in fields(Config) if isinstance(field.type, type) and is_dataclass(field.type)]
OPTIONS = sorted((file.parent.name, file.stem) for group in GROUPS for file in (CONF / group).glob("*.yaml"))
EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
QUANTS_OF_SERVERS = ("awq", "gptq", "exl2", "exl3", "fp8")
SERVED = ["engine.url=http://127.0.0.1:8000/v1"]
NEEDED = {
    "local": ["model.path=some.gguf"],
    "folder": ["model.path=somewhere", "model.name=x"],
    "hub": ["model.repository=owner/name"],
    "files": ["data.path=some.csv"],
    "openai": [*SERVED, "engine.prompt=text"],
    "server": [*SERVED, "engine=openai", "model.name=some"],
    "tracking=server": ["tracking.uri=http://127.0.0.1:5000"],
    **{quant: [*SERVED, "engine=openai", "model=server", "model.name=some"] for quant in QUANTS_OF_SERVERS},
}
"""What an option cannot do without."""


@pytest.fixture(autouse=True)
def _conf() -> Iterator[None]:
    with initialize_hydra():
        yield


def test_columns_can_be_named_whatever_data_they_are_of() -> None:
    for place in ("hub", "files"):
        columns = compose_job(
            f"data={place}", "task=gsm8k", *NEEDED.get(place, []), "data.columns={question: a}"
        ).data.columns
        assert columns == {"question": "a"}
    one = compose_job("data=hub", "task=triviaqa", "data.columns.question=a").data.columns
    assert (one["question"], one["aliases"][0]) == ("a", "answer.value")


def expected(*overrides: str) -> list[Config]:
    """The jobs that the callback expects and checks."""
    return list(compose_jobs(compose_sweep(*overrides)))


def launched(*overrides: str) -> list[Config]:
    """The jobs that Hydra's sweeper and launcher really start; each is only written down."""
    started: list[Config] = []

    def write_down(job: DictConfig) -> None:
        started.append(validated(job, Config))

    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    given = [*overrides, "~hydra.callbacks.sweep", "hydra.mode=MULTIRUN"]
    hydra.multirun("config", write_down, given, with_log_configuration=False)
    return started


@pytest.fixture
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_there_are_options_to_test() -> None:
    assert {group for group, _ in OPTIONS} == set(GROUPS)
    assert EXPERIMENTS


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_fits_its_type(group: str, option: str) -> None:
    needed = NEEDED.get(f"{group}={option}", NEEDED.get(option, []))
    config = compose_job(f"{group}={option}", *needed)
    in_file = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{option}.yaml"))
    assert isinstance(in_file, dict)
    in_file.pop("defaults", None)  # what an option takes from another is not a key of its own
    for key, value in in_file.items():
        given = any(each.startswith(f"{group}.{key!s}=") for each in needed)
        if not (given or isinstance(value, dict) or "${" in str(value) or value == "???"):
            there = getattr(getattr(config, group), str(key))
            assert getattr(there, "value", there) == value
    if "${" not in str(in_file.get("name", "${")) and in_file["name"] != "???":
        assert in_file["name"] == option


@pytest.mark.parametrize(("group", "option"), [pair for pair in OPTIONS if pair[0] in {"stats", "tracking"}])
def test_options_of_the_aggregation_compose(group: str, option: str) -> None:
    needed = NEEDED.get(f"{group}={option}", [])
    validated(compose("aggregate", [f"{group}={option}", *needed]), AggregateConfig)


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task_has_an_option_with_a_grader_it_knows(task: str) -> None:
    config = compose_job(f"task={task}")
    assert get_task(config.task.name).grader(config.task.grader)


@pytest.mark.parametrize("task", sorted({*TASKS, "qa"} - {"text"}))
def test_every_grader_is_an_option_and_a_value_of_the_task(task: str) -> None:
    name = ("data=files", "data.path=x.csv", "task.name=qa") if task == "qa" else ()
    config = compose_job(f"task={task}", *name)
    kind = get_task(config.task.name, config.task.module)
    assert config.task.grader == kind.default_grader
    for grader in kind.graders:
        option = CONF / "task" / "grader" / f"{grader}.yaml"
        assert option.read_text().startswith("# @package task\n")
        assert OmegaConf.load(option) == {"grader": grader}
    assert compose_job(f"task={task}", f"task/grader={grader}", *name).task.grader == grader
    value = compose_job("task/grader=gsm8k", f"task={task}", "task.grader=nope", *name).task.grader
    with pytest.raises(UserError, match=f"task.grader=nope: {kind.name} has no such grader; choose one of "):
        kind.grader(value)


def test_every_option_opens_with_what_it_is() -> None:
    for file in CONF.rglob("*.yaml"):
        assert file.read_text().startswith("# "), f"{file.relative_to(CONF)} does not say what it is"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_opens_with_its_command_and_composes(experiment: str) -> None:
    lines = (CONF / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert lines[:2] == ["# @package _global_", f"# Run: python -m quantexp experiment={experiment}"]
    assert compose_job(f"experiment={experiment}")


def test_an_experiment_sweeps_without_being_told_to() -> None:
    assert compose_sweep("experiment=demo").hydra.mode is RunMode.MULTIRUN
    assert (
        compose_sweep().hydra.mode is not RunMode.MULTIRUN
        or compose("config", return_hydra_config=True).hydra.mode is None
    )


def test_the_demo_is_every_quant_on_every_task() -> None:
    quants, tasks = ("Q8_0", "Q5_K_M", "Q4_K_M", "Q3_K_M"), ("gsm8k", "triviaqa", "extraction")
    jobs = expected("experiment=demo")
    assert [(job.quant.name, job.task.name, job.seed) for job in jobs] == [(q, t, 0) for q in quants for t in tasks]


@pytest.mark.usefixtures("_in_empty_folder")
@pytest.mark.parametrize(
    ("overrides", "jobs"),
    [
        # The command line wins over what the experiment sweeps, and no job is there twice.
        (["experiment=demo", "quant=F16"], [("F16", task, 0) for task in ("gsm8k", "triviaqa", "extraction")]),
        (
            ["experiment=demo", "task=triviaqa", "quant=Q2_K", "seed=1,2"],
            [("Q2_K", "triviaqa", 1), ("Q2_K", "triviaqa", 2)],
        ),
        (["seed=0,1,2"], [("Q8_0", "gsm8k", seed) for seed in (0, 1, 2)]),
        (["quant=glob(*_K_M,exclude=Q3*)"], [("Q4_K_M", "gsm8k", 0), ("Q5_K_M", "gsm8k", 0)]),
        # A key given twice: the last one wins.
        (["seed=0,1", "seed=5"], [("Q8_0", "gsm8k", 5)]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) else f"{len(value)} jobs",
)
def test_the_jobs_that_are_checked_are_the_jobs_that_run(
    overrides: list[str], jobs: list[tuple[str, str, int]]
) -> None:
    checked = expected(*overrides)
    assert [(job.quant.name, job.task.name, job.seed) for job in checked] == jobs
    assert launched(*overrides) == checked


@pytest.mark.usefixtures("_in_empty_folder")
@pytest.mark.parametrize(
    ("overrides", "tasks"),
    [
        (["task=qa", "data=files", "data.path=quiz.csv,riddles.csv"], ["quiz", "riddles"]),
        (["task=qa", "task.name=a,b", "data=files", "data.path=my-${task.name}.csv"], ["a", "b"]),
        (["task=gsm8k,qa,triviaqa", "data=hub", "data.own.qa=quiz.csv"], ["gsm8k", "quiz", "triviaqa"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_own_files_are_swept_like_anything_else(overrides: list[str], tasks: list[str]) -> None:
    jobs = expected(*overrides)
    assert [job.task.name for job in jobs] == tasks
    assert launched(*overrides) == jobs


def test_tasks_follow_the_model_and_the_data() -> None:
    config = compose_job("task=triviaqa", "model.shots=3", "data.limit=7", "model.context=999")
    assert (config.task.shots, config.task.limit, config.engine.context) == (3, 7, 999)


def test_what_follows_can_be_overridden() -> None:
    given = ["task.shots=1", "task.limit=5", "engine.context=777"]
    config = compose_job("model.shots=3", "data.limit=7", "model.context=999", *given)
    assert (config.task.shots, config.task.limit, config.engine.context) == (1, 5, 777)
    assert (config.model.shots, config.data.limit, config.model.context) == (3, 7, 999)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (
            ["engine=openai"],
            "engine.url has no value; add engine.url=VALUE, or engine.urls={QUANT: VALUE, ...}, to the command.",
        ),
        (
            ["engine=openai", "engine.url=localhost:8000/v1"],
            "engine.url=localhost:8000/v1 must begin with http:// or https://, as in http://127.0.0.1:8000/v1.",
        ),
        (
            ["engine=openai", "engine.url='http://me:secret@127.0.0.1/v1'"],
            "engine.url may hold no password and no query, since it is recorded with every run; put the key in an "
            "environment variable and name that with engine.api_key_variable=NAME.",
        ),
        (
            [*NEEDED["openai"], "engine=openai", "engine.lanes=4"],
            "engine.lanes is of a model in this process, and engine=openai asks a server: leave it out.",
        ),
        (
            [*NEEDED["openai"], "engine=openai", "engine.kv_key=q8_0"],
            "engine.kv_key is of a model in this process, and engine=openai asks a server: leave it out.",
        ),
        (
            [*NEEDED["openai"], "engine=openai", "engine.flash_attention=off"],
            "engine.flash_attention is of a model in this process, and engine=openai asks a server: leave it out.",
        ),
        (
            ["engine.kv_value=q4_0", "engine.flash_attention=off"],
            "engine.kv_value=q4_0 needs flash attention, and engine.flash_attention is off: set it to auto, or "
            "engine.kv_value to f16, bf16 or f32.",
        ),
        (
            ["engine.url=http://127.0.0.1:8000/v1"],
            "engine.url is of a server, and engine=llama_cpp runs the model itself: add engine=openai.",
        ),
        (
            [*NEEDED["openai"], "engine=openai", "divergence=true"],
            "divergence=true needs a model in this process: set engine=llama_cpp.",
        ),
        (
            [*NEEDED["server"], "model=server", "engine.prompt=text"],
            "engine.prompt=text makes the prompt here, by the template in a GGUF, and model=server has none: set "
            "engine.prompt=messages, or model=local model.path=FILE.",
        ),
        (
            [*NEEDED["server"], "model=server", "model.chat_template=x.jinja"],
            "model.chat_template is not used where the server makes the prompt: give it to the server, or set "
            "engine.prompt=text.",
        ),
        (
            ["engine=openai", *SERVED],
            "model.examples=answer begins the model's own answer, which a chat sent to a server cannot do: set "
            "engine.prompt=text (or tokens), which makes the prompt here, or model.examples=turns.",
        ),
        (
            [*NEEDED["openai"], "engine=openai", "task.sampling.min_p=0.1", "engine.extra_body={top_k: 0, min_p: 0}"],
            "engine.extra_body has min_p, top_k, and task.sampling.min_p is sent with all that goes with it: leave one "
            "of them out.",
        ),
        (
            [*NEEDED["openai"], "engine=openai", "engine.extra_body={seed: 1, top_k: 0}"],
            "engine.extra_body may not hold seed, which other keys of the configuration decide.",
        ),
        (
            [*NEEDED["openai"], "engine=openai", "engine.timeout=0"],
            "engine.timeout=0.0 must be a number of seconds above 0.",
        ),
        (
            [*NEEDED["openai"], "engine=openai", "engine.concurrency=0"],
            "engine.concurrency=0 is too small; it must be at least 1.",
        ),
        (
            [*NEEDED["openai"], "engine=openai", "engine.retries=-1"],
            "engine.retries=-1 is too small; it must be at least 0.",
        ),
        (
            [*NEEDED["server"], "model=server", "quant.bits_per_weight=0"],
            "quant.bits_per_weight=0.0 must be above 0 and at most 64.",
        ),
        (
            [*NEEDED["server"], "model=server", "quant.bits_per_weight=4", "model.checkpoint=x"],
            "quant.bits_per_weight is for a model of which no file is here: this one's is measured; leave it out.",
        ),
        (
            ["model=server", "model.name=some"],
            "model.source=server: there is no file of some to load here; add engine=openai and engine.url, or choose "
            "a model with a file.",
        ),
        (["engine.name=vllm"], "engine.name=vllm is unknown; choose llama_cpp or openai."),
        (["quant=awq"], "quant=awq is no GGUF; serve it, and add engine=openai model=server."),
        ([*NEEDED["openai"], "engine=openai", "quant=awq"], "quant=awq is no GGUF; add model=server."),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else "",
)
def test_what_an_engine_cannot_do_is_refused_before_anything_runs(overrides: list[str], problem: str) -> None:
    with pytest.raises(UserError) as caught:
        check_engine(compose_job(*overrides))
    assert str(caught.value) == problem


@pytest.mark.parametrize("chosen", ["on", "off", "auto"])
def test_flash_attention_is_on_or_off_on_the_command_line_and_in_yaml(chosen: str) -> None:
    assert compose_job(f"engine.flash_attention={chosen}").engine.flash_attention is FlashAttention[chosen]
    # Bare, as people write it, and as a recorded configuration has it.
    for written in (chosen, f"'{chosen}'"):
        option = OmegaConf.create(f"engine: {{flash_attention: {written}}}")
        merged = OmegaConf.merge(compose("config"), option)
        assert isinstance(merged, DictConfig)
        assert validated(merged, Config).engine.flash_attention is FlashAttention[chosen]


def test_flash_attention_is_nothing_else() -> None:
    with pytest.raises(ValidationError, match=r"Invalid value 'maybe', expected one of \[auto, on, off\]"):
        compose_job("engine.flash_attention=maybe")


def test_each_quant_may_have_a_server_of_its_own() -> None:
    urls = "engine.urls={awq: 'http://127.0.0.1:8001/v1', gptq: 'http://127.0.0.1:8002/v1'}"
    served = ["engine=openai", "model=server", "model.name=m", "quant.bits_per_weight=4", urls]
    jobs = expected(*served, "quant=awq,gptq")
    assert [job.engine.url for job in jobs] == ["http://127.0.0.1:8001/v1", "http://127.0.0.1:8002/v1"]
    [has_server, has_none] = expected(*served, "quant=awq,fp8")
    check_engine(has_server)
    with pytest.raises(UserError, match=r"engine.url has no value"):
        check_engine(has_none)
    with pytest.raises(UserError, match=r"engine.urls.fp8=nowhere must begin with http"):
        check_engine(compose_job(*served, "quant=awq", "engine.urls.fp8=nowhere"))


def fingerprints(*overrides: str) -> tuple[str, str]:
    job = compose_job("engine=openai", *NEEDED["server"], "model=server", *overrides)
    return config_fingerprint(job), pair_fingerprint(job)


def test_how_a_server_is_reached_decides_no_answer_and_which_quant_it_has_no_pair() -> None:
    first = fingerprints("quant=awq")
    quick = ("engine.concurrency=2", "engine.timeout=9", "engine.retries=1", "engine.api_key_variable=X")
    assert fingerprints("quant=awq", *quick) == first
    own = ("engine.url=http://127.0.0.1:9/v1", "engine.model=m", "quant=gptq", "quant.bits_per_weight=4")
    for change in own:
        job, pair = fingerprints("quant=awq", change)
        assert (job != first[0], pair == first[1]) == (True, True), change
    for change in ("engine.extra_body={top_k: 1}", "model.name=other"):
        assert fingerprints("quant=awq", change)[1] != first[1]


def test_null_means_all_items() -> None:
    assert compose_job("task.limit=null").task.limit is None


@pytest.mark.usefixtures("_in_empty_folder")
def test_one_file_a_quant(tmp_path: Path) -> None:
    for quant in ("Q8_0", "Q4_K_M"):
        (tmp_path / f"my-{quant}.gguf").touch()
    command = ["model=local", f"model.path={tmp_path}/my-${{quant.name}}.gguf", "quant=Q8_0,Q4_K_M"]
    jobs = expected(*command)
    assert launched(*command) == jobs
    assert [job.model.path for job in jobs] == [f"{tmp_path}/my-Q8_0.gguf", f"{tmp_path}/my-Q4_K_M.gguf"]


@pytest.mark.parametrize(
    ("hint", "inside", "outside", "words"),
    [
        (Annotated[int, Ge(1)], 1, 0, "at least 1"),
        (Annotated[int, Ge(1)] | None, None, 0, "at least 1"),
        (Annotated[float, Gt(0), Lt(1)], 0.5, float("nan"), "above 0 and below 1"),
        (dict[str, Annotated[float, Gt(0), Le(1)]], {"a": 1.0}, {"a": 1.5}, "above 0 and at most 1"),
        (int, -5, None, ""),
    ],
)
def test_a_range_beside_a_key_is_held_and_put_into_words(hint: Any, inside: Any, outside: Any, words: str) -> None:
    section = make_dataclass("Section", [("key", hint)])
    whole = make_dataclass("Whole", [("section", section)])
    assert range_in_words(hint) == words
    assert list(find_range_problems(whole(section(inside)))) == []
    if words:
        [problem] = find_range_problems(whole(section(outside)))
        assert problem.startswith("section.key")
        assert words in problem
