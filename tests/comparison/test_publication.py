"""Published files: read with care, since they come from anybody, and restored as the jobs they were."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.composing import compose_job, initialize_hydra
from tests.support.publications import make_job, publish

from quantexp.comparison.agreement import Outcome, Pair, judge_agreement
from quantexp.comparison.publication import hash_content, make_schema, read_publication
from quantexp.config import Config
from quantexp.config.fingerprint import list_decisive
from quantexp.config.published import publish_command, publish_settings, publish_stats, restore_settings
from quantexp.util.errors import UserError

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def content() -> dict[str, Any]:
    """A published file, as JSON."""
    found: dict[str, Any] = json.loads(publish(make_job(scores=[1, 0, 1])).dump())
    return found


def _job(*words: str) -> Config:
    with initialize_hydra():
        return compose_job(*words)


def _write(folder: Path, content: object) -> Path:
    path = folder / "results.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_published_schema_is_that_of_the_types() -> None:
    shown = json.loads((DOCS / "reference" / "export.schema.json").read_text())
    assert shown == make_schema(), "write it anew: json.dumps(make_schema(), indent=2)"


def test_a_file_is_read_as_it_was_written(tmp_path: Path, content: dict[str, Any]) -> None:
    assert read_publication(_write(tmp_path, content)).dump() == publish(make_job(scores=[1, 0, 1])).dump()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"schema": NaN}', "NaN is no number of JSON"),
        ("[1]", "it holds no keys"),
        ('{"schema": 2}', "is of another version (schema 2"),
        ('{"schema": 1}', "is no results.json of quantexp"),
    ],
)
def test_what_is_no_such_file_is_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        read_publication(_write(tmp_path, text))
    with pytest.raises(UserError, match="is not there"):
        read_publication(tmp_path / "nothing.json")
    with pytest.raises(UserError, match="is a folder"):
        read_publication(tmp_path)


@given(data=st.data())
def test_any_change_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = json.loads(publish(make_job(scores=[1, 0, 1])).dump())
    places: list[tuple[Any, Any]] = []

    def walk(tree: Any) -> None:
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            places.append((tree, key))
            if isinstance(tree[key], dict | list):
                walk(tree[key])

    walk(content)
    tree, key = data.draw(st.sampled_from(places))
    values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())
    changed = data.draw(values.filter(lambda value: json.dumps(value) != json.dumps(tree[key])))
    tree[key] = changed
    with pytest.raises(UserError):
        read_publication(_write(tmp_path_factory.mktemp("changed"), content))


def test_a_sealed_file_whose_mean_is_made_up_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    content["conditions"][0]["score"]["mean"] = 0.9
    content["sha256"] = hash_content(content)
    with pytest.raises(UserError, match="is not the mean of its answers' scores"):
        read_publication(_write(tmp_path, content))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["task=extraction", "quant=Q3_K_M", "seed=3", "task.shots=2", "engine.kv_key=q8_0", "engine.kv_value=q8_0"],
        ["task=choice", "engine.flash_attention=on", "task.limit=7", "model.template={enable_thinking: false}"],
        ["task=gsm8k", "data=hub", "model=qwen3-4b", "task.sampling=model", "task.sampling.samples=2"],
        ["task=qa", "data=files", "data.path=/home/me/quiz.csv", "data.columns={question: prompt}", "task.name=quiz"],
        ["weights=bartowski/Qwen3-8B-GGUF:Q4_K_M", "task=gsm8k", "model.name=q"],
        [
            *("model=server", "engine=openai", "engine.url=http://here:1/v1", "engine.floor=false"),
            *("model.checkpoint=/home/me/awq", "model.name=s"),
        ],
        ["model=local", "model.path=/home/me/a.gguf", "model.cache=/tmp/c", "tracking.folder=/tmp/t", "task=triviaqa"],
    ],
)
def test_a_job_is_restored_as_it_was(words: list[str]) -> None:
    config = _job(*words)
    settings = json.loads(json.dumps(publish_settings(config)))
    assert "/home" not in json.dumps(settings)
    assert "/tmp" not in json.dumps(settings)
    places: dict[str, Any] = {"model.path": config.model.path, "data.path": config.data.path}
    places |= {"model.checkpoint": config.model.checkpoint, "engine.url": config.engine.url}
    given_places = {key: value for key, value in places.items() if value is not None}
    restored = restore_settings(settings, publish_stats(config.stats), given_places)
    assert list_decisive(restored) == list_decisive(config)
    assert restored.stats == config.stats


@pytest.mark.parametrize(
    ("settings", "places", "said"),
    [
        ({"task": {"module": "evil"}}, {}, "the Python module evil"),
        ({"task": {"include_path": "evil"}}, {}, "the tasks in the folder evil"),
        ({"engine": {"name": "openai"}}, {}, "a server answered"),
        ({"model": {"name": "${oc.env:HOME}"}}, {}, "${...}"),
        ({"nothing": 1}, {}, "none of this version"),
        ({"task": 1}, {}, "none of this version"),
        ({"seed": -1}, {}, "seed=-1"),
        ({"engine": {"urls": {"Q8_0": "http://evil"}}}, {}, "keys that no published file has"),
        ({"engine": {"api_key_variable": "SECRET"}}, {}, "keys that no published file has"),
        ({"judge": {"name": "server", "engine": {"url": "http://evil"}}}, {}, "keys that no published file has"),
        ({"judge": {"name": "server"}}, {}, "a model judged"),
        ({"embedder": {"name": "gguf"}}, {}, "a model embedded"),
        ({"task": {"unsafe_code": True}}, {}, "keys that no published file has"),
        ({"divergence_write": "/tmp/x"}, {}, "keys that no published file has"),
        ({"tracking": {"uri": "http://evil"}}, {}, "keys that no published file has"),
        ({"data": {"source": "files", "path": "/etc/passwd"}}, {}, "keys that no published file has"),
        ({"model": {"source": "path", "path": "../a.gguf", "quantize": False}}, {}, "keys that no published file has"),
        ({}, {"engine.context": 1}, "places: engine.context"),
    ],
)
def test_a_file_chooses_no_code_no_server_and_no_place(settings: Any, places: Any, said: str) -> None:
    whole = publish_settings(_job())
    merged = {**whole, **{k: {**whole.get(k, {}), **v} if isinstance(v, dict) else v for k, v in settings.items()}}
    with pytest.raises(UserError, match=re.escape(said)):
        restore_settings(merged, {}, places)


def test_a_command_is_published_without_places() -> None:
    typed = (
        "python -m quantexp -m quant=Q8_0 model.path=/home/me/x/a.gguf weights=a/b:Q4,/home/me/c.gguf "
        "engine.threads=4 tracking.uri=http://intern:5000 store.folder=/data 'data.own={qa: /home/quiz.csv}' seed=0,1"
    )
    assert publish_command(typed) == (
        "python -m quantexp -m quant=Q8_0 model.path=a.gguf weights=a/b:Q4,c.gguf 'data.own={qa: quiz.csv}' seed=0,1"
    )


def _judge(published: Any, again: Any, margin: float = 0.02) -> tuple[Outcome, str]:
    [found] = judge_agreement([Pair(published, again)], {published.task: margin}, confidence=0.95)
    return found.outcome, found.reason


def test_bytes_agree_where_they_should() -> None:
    job = make_job(scores=[1, 0, 1])
    assert _judge(job, job) == (Outcome.agrees, "all 3 completions are the published ones, to the byte")
    outcome, reason = _judge(job, make_job(scores=[1, 0, 1], outputs=["a", "b", "other"]))
    assert outcome is Outcome.differs
    assert reason.startswith("2 of 3 completions are the published ones, to the byte, and all should be")
    outcome, reason = _judge(job, make_job(scores=[1, 1, 1]))
    assert (outcome, "1 of these are graded otherwise" in reason) == (Outcome.differs, True)


def test_scores_agree_differ_or_do_not_tell_elsewhere() -> None:
    n = 400
    job = make_job(scores=[1] * n)
    other = partial(make_job, outputs=["other"] * n, build="another")
    outcome, reason = _judge(job, other([1] * n))
    assert outcome is Outcome.agrees, reason
    assert "more is not to be expected (another build of llama.cpp)" in reason
    assert reason.endswith("within 2.0 points")
    outcome, reason = _judge(job, other([1] * (n - 40) + [0] * 40))
    assert outcome is Outcome.differs, reason
    outcome, reason = _judge(job, other([1] * (n - 4) + [0] * 4))
    assert outcome is Outcome.unknown, reason
    assert _judge(job, other([1] * (n - 4) + [0] * 4), margin=0.05)[0] is Outcome.agrees


def test_another_question_is_no_reproduction() -> None:
    job = make_job(scores=[1, 0, 1])
    for other in (make_job(scores=[1, 0, 1], grader="g-v2"), make_job(scores=[1, 0, 1], prompts=["x", "y", "z"])):
        outcome, reason = _judge(job, other)
        assert outcome is Outcome.unknown
        assert reason.startswith("something else was asked: ")
    [failed] = judge_agreement([Pair(job, None, "no memory")], {job.task: 0.02}, confidence=0.95)
    assert (failed.outcome, failed.reason) == (Outcome.unknown, "its run failed: no memory")
