"""Loading a model, its chat template, its context, and what identifies an answer."""

import math
import os
import shutil
import struct
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from llama_cpp import llama_cpp

from quantexp import engines
from quantexp.config import EngineConfig, ModelConfig
from quantexp.engines import Decoding, Prompt, close_engine, open_engine
from quantexp.engines.base import Continuation
from quantexp.engines.llama_cpp import engine as module
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.registry import get_engine
from quantexp.engines.sequences import TokenSequence
from quantexp.evaluation.kl_divergence.reference import write_reference
from quantexp.models import ModelFile
from quantexp.models.gguf import identify
from quantexp.util.errors import UserError
from quantexp.util.native.threads import THREADS, usable_cores

GGUF_FLOAT32 = 6
"""enum gguf_type in gguf.h."""

ONE_THREAD = EngineConfig("llama_cpp", context=1024, threads=1, lanes=8)


# Chat templates


@pytest.fixture
def copies(q8_0: ModelFile, tmp_path: Path) -> Iterator[Path]:
    """A folder for copies of the model."""
    folder = tmp_path / "copies"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def without_template(q8_0: ModelFile, copies: Path) -> ModelFile:
    key = b"tokenizer.chat_template"
    content = bytearray(Path(q8_0.path).read_bytes())
    place = content.index(key)
    content[place : place + len(key)] = b"tokenizer.chat_templatX"
    path = copies / "no-template.gguf"
    path.write_bytes(content)
    return identify(path, copies)


def test_a_model_that_computes_no_numbers_has_no_answers(q8_0: ModelFile, demo: ModelConfig, copies: Path) -> None:
    key = b"llama.rope.freq_base" + struct.pack("<I", GGUF_FLOAT32)
    content = bytearray(Path(q8_0.path).read_bytes())
    place = content.index(key) + len(key)
    content[place : place + 4] = struct.pack("<f", math.nan)
    path = copies / "nan.gguf"
    path.write_bytes(content)
    model = LlamaCpp(replace(q8_0, path=str(path)), demo, ONE_THREAD)
    try:
        for decoding in (Decoding(4), Decoding(4, temperature=1.0)):
            with pytest.raises(UserError, match=r"^The model computes logits that are not numbers; the model's file"):
                list(model.complete([Prompt("a", "", model.tokenize("The capital of France is"), 0)], decoding))
        sequence = TokenSequence(model.tokenize("The capital of France is Paris."), 3)
        with pytest.raises(UserError, match="logits that are not numbers"):
            write_reference(copies / "reference.parquet", model, [sequence])
        with pytest.raises(UserError, match="logits that are not numbers"):
            list(model.score([Continuation("a", "", sequence.tokens[:3], 0, continuation=sequence.tokens[3:])]))
        assert not (copies / "reference.parquet").exists()
    finally:
        model.close()


def test_chat_template_of_the_users_choice(without_template: ModelFile, demo: ModelConfig, tmp_path: Path) -> None:
    base = LlamaCpp(without_template, demo, ONE_THREAD)  # which can be read, though not asked
    try:
        with pytest.raises(
            UserError, match=r"no-template\.gguf has no chat template; give one with model\.chat_template"
        ):
            base.render([{"role": "user", "content": "hi"}])
    finally:
        base.close()
    assert not mapped(without_template.path)

    template = tmp_path / "template.jinja"
    template.write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }}é\n{% endfor %}", encoding="utf-8")
    engine = LlamaCpp(without_template, replace(demo, chat_template=str(template)), ONE_THREAD)
    try:
        assert engine.chat_template == template.read_text(encoding="utf-8")
        assert engine.render([{"role": "user", "content": "hi"}]) == "[user] hié\n"
    finally:
        engine.close()
    assert not mapped(without_template.path)


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('only system turns') }}",
        "{{ messages[9].content.more }}",
        "{{ messages + 1 }}",
        "{{ messages | no_such_filter }}",
        "{% for m in messages %}",
    ],
)
def test_chat_template_that_fails(q8_0: ModelFile, demo: ModelConfig, tmp_path: Path, source: str) -> None:
    template = tmp_path / "template.jinja"
    template.write_text(source)
    with pytest.raises(UserError, match=r"^The model's chat template .*; give another with model\.chat_template=FILE"):
        render(q8_0, replace(demo, chat_template=str(template)))


def test_chat_template_that_is_no_template(q8_0: ModelFile, demo: ModelConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.chat_template=.*absent is not a file"):
        render(q8_0, replace(demo, chat_template=str(tmp_path / "absent")))
    with pytest.raises(UserError, match=r"model\.chat_template=.*\.gguf is not UTF-8 text"):
        render(q8_0, replace(demo, chat_template=q8_0.path))


def render(file: ModelFile, model: ModelConfig) -> str:
    engine = LlamaCpp(file, model, ONE_THREAD)
    try:
        return engine.render([{"role": "user", "content": "hi"}])
    finally:
        engine.close()


# Loading


def mapped(path: str) -> bool:
    """Whether the file is in this process's memory."""
    return path in Path("/proc/self/maps").read_text()


@pytest.fixture
def _nothing_open() -> Iterator[None]:
    close_engine()
    yield
    close_engine()


@pytest.mark.usefixtures("_nothing_open")
def test_one_engine_is_open_at_a_time(q8_0: ModelFile, demo: ModelConfig, copies: Path) -> None:
    paths = [copies / name for name in ("first.gguf", "second.gguf")]
    for path in paths:
        path.hardlink_to(q8_0.path)
    first, second = (replace(q8_0, path=str(path)) for path in paths)
    opened = open_engine(first, demo, ONE_THREAD)
    assert opened.capabilities == get_engine("llama_cpp").capabilities
    assert open_engine(first, demo, replace(ONE_THREAD)) is opened
    assert mapped(first.path)
    other = open_engine(second, demo, ONE_THREAD)
    assert other is not opened
    assert mapped(second.path)
    assert not mapped(first.path)
    assert open_engine(second, demo, replace(ONE_THREAD, context=512)) is not other
    close_engine()
    assert not mapped(second.path)
    close_engine()  # nothing is open: nothing happens


@pytest.mark.usefixtures("_nothing_open")
def test_unknown_engine(q8_0: ModelFile, demo: ModelConfig) -> None:
    with pytest.raises(UserError, match=r"engine\.name=vllm is unknown; choose llama_cpp"):
        open_engine(q8_0, demo, EngineConfig("vllm"))
    assert engines._open is None


def test_gpu_layers_on_a_cpu_build(
    q8_0: ModelFile, demo: ModelConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if llama_cpp.llama_supports_gpu_offload():
        pytest.skip("this build of llama-cpp-python has GPU support")
    with pytest.raises(UserError, match=r"gpu_layers=10 needs .*set engine\.gpu_layers=0, or install a GPU"):
        LlamaCpp(q8_0, demo, replace(ONE_THREAD, gpu_layers=10))

    # All of them means all that a GPU takes: an experiment written for one runs anywhere, says so once, and is recorded
    # as what it was.
    monkeypatch.setattr(module, "_warn_of_cpu_build", cache(module._warn_of_cpu_build.__wrapped__))
    prompt = Prompt("a", "Hello", (1, 2, 3), 0)
    keys = []
    for layers in (-1, -1, 0):
        engine = LlamaCpp(q8_0, demo, replace(ONE_THREAD, gpu_layers=layers))
        assert engine.settings["gpu_layers"] == "0"
        keys.append(engine.key(prompt, Decoding(8)))
        engine.close()
    assert len(set(keys)) == 1
    assert caplog.text.count("was built for the CPU") == 1


def test_a_template_that_asks_for_the_date_is_told_the_same_one_every_day(
    q8_0: ModelFile, demo: ModelConfig, tmp_path: Path
) -> None:
    template = tmp_path / "dated.jinja"
    template.write_text("{{ strftime_now('%d %b %Y') }} {{ messages[0]['content'] }}")
    engine = LlamaCpp(q8_0, replace(demo, chat_template=str(template)), ONE_THREAD)
    assert engine.render([{"role": "user", "content": "Hi"}]) == "26 Jul 2024 Hi"
    engine.close()


def test_threads_default_to_the_cores_this_process_may_use(
    q8_0: ModelFile, demo: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(THREADS)
    allowed = os.sched_getaffinity(0)
    assert 1 <= usable_cores() <= len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_cores() == 1
        engine = LlamaCpp(q8_0, demo, EngineConfig("llama_cpp", context=256))
        try:
            context = engine._context.open(1)
            assert llama_cpp.llama_n_threads(context) == 1
            assert llama_cpp.llama_n_threads_batch(context) == 1
        finally:
            engine.close()
    finally:
        os.sched_setaffinity(0, allowed)


def test_context_longer_than_training_is_mentioned(
    q8_0: ModelFile, demo: ModelConfig, caplog: pytest.LogCaptureFixture
) -> None:
    trained_for_less = replace(q8_0, training_context=128)
    LlamaCpp(trained_for_less, demo, replace(ONE_THREAD, context=256)).close()
    assert "a context of 256 tokens is more than the 128" in caplog.text
