"""Answers from the real engine: exact, independent of what surrounds them, ended for the right reason."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from llama_cpp import Llama, llama_cpp

from quantexp import engines
from quantexp.config import EngineConfig, ModelConfig
from quantexp.engines import Completion, Decoding, Prompt, close_engine, open_engine
from quantexp.engines.llama_cpp import BATCH, LlamaCpp, usable_cores
from quantexp.errors import UserError
from quantexp.models import ModelFile
from quantexp.models.gguf import identify

ONE_THREAD = EngineConfig("llama_cpp", context=1024, threads=1)
SHORT = Decoding(12)

QUESTIONS = (
    "What is the capital of France?",
    "List the numbers from 1 to 10.",
    "Repeat: 🎉🎉🎉 café naïve",
    "Say yes.",
)
BEGINNINGS = ("The capital of France is", "Count: 1, 2, 3,", "Once upon a time", "def add(a, b):")


def asked(engine: LlamaCpp, question: str, shared: int = 0) -> Prompt:
    text = engine.render([{"role": "user", "content": question}])
    return Prompt(question, text, engine.tokenize(text), shared)


def raw(engine: LlamaCpp, text: str) -> Prompt:
    """A prompt without a chat around it, which the model goes on with."""
    return Prompt(text, text, engine.tokenize(text), 0)


def answers(engine: LlamaCpp, prompts: list[Prompt], decoding: Decoding = SHORT) -> dict[str, Completion]:
    """By item, without the times."""
    return {
        each.item_id: replace(each, prompt_seconds=0.0, generation_seconds=0.0)
        for each in engine.complete(prompts, decoding)
    }


def answer(engine: LlamaCpp, prompt: Prompt, decoding: Decoding = SHORT) -> Completion:
    return answers(engine, [prompt], decoding)[prompt.item_id]


@pytest.fixture(scope="module")
def reference(q8_0: ModelFile) -> Iterator[Llama]:
    """The library's own high-level interface on the same file with the same settings."""
    llama = Llama(
        q8_0.path, n_ctx=1024, n_batch=BATCH, n_ubatch=BATCH, n_threads=1, n_threads_batch=1, flash_attn=True,
        verbose=False,
    )  # fmt: skip
    yield llama
    llama.close()


# Exactness


def test_answers_are_those_of_the_high_level_interface(engine: LlamaCpp, reference: Llama) -> None:
    long = raw(engine, "The sun rises. " * (BATCH // 3))
    long = replace(long, tokens=long.tokens[: BATCH + 8])  # read in two batches
    prompts = [asked(engine, question) for question in QUESTIONS[1:3]]
    prompts += [*(raw(engine, beginning) for beginning in BEGINNINGS[:3]), long]
    for prompt in prompts:
        ours = answer(engine, prompt)
        reference.reset()
        theirs = reference.create_completion(list(prompt.tokens), max_tokens=SHORT.max_tokens, temperature=0.0)
        assert ours.text == theirs["choices"][0]["text"]
        assert ours.finish_reason == theirs["choices"][0]["finish_reason"]
        # All but the last token, which the reference chose but had no need to evaluate.
        evaluated = reference.input_ids[len(prompt.tokens) : reference.n_tokens]
        assert tuple(evaluated) == ours.tokens[: len(evaluated)]
        assert len(ours.tokens) - len(evaluated) in (0, 1)


def test_answers_depend_on_nothing_around_them(engine: LlamaCpp) -> None:
    prompts = [raw(engine, beginning) for beginning in BEGINNINGS]
    together = answers(engine, prompts)
    assert list(together) == list(BEGINNINGS)
    assert answers(engine, prompts[::-1]) == together
    assert answers(engine, prompts[2:]) == {key: together[key] for key in BEGINNINGS[2:]}
    assert (
        answers(engine, [prompts[0], raw(engine, "A"), prompts[3]]).items()
        >= {key: together[key] for key in (BEGINNINGS[0], BEGINNINGS[3])}.items()
    )
    assert answer(engine, prompts[1]) == together[BEGINNINGS[1]]


def test_answers_after_a_shared_beginning_depend_on_nothing_around_them(engine: LlamaCpp) -> None:
    plain = [asked(engine, question) for question in QUESTIONS[:3]]
    columns = zip(*(each.tokens for each in plain), strict=False)
    common = next(place for place, column in enumerate(columns) if len(set(column)) > 1)
    assert common > 10
    prompts = [replace(each, shared=common) for each in plain]
    # One that shares less, as an unusual first word does, and one of another task between them.
    prompts[2:2] = [replace(asked(engine, "Say no."), shared=common - 3), raw(engine, BEGINNINGS[0])]
    decoding = Decoding(6)
    together = answers(engine, prompts, decoding)
    assert answers(engine, prompts[::-1], decoding) == together
    assert answers(engine, [prompts[0], prompts[4]], decoding).items() <= together.items()
    assert answer(engine, prompts[1], decoding) == together[prompts[1].item_id]


def test_answers_do_not_depend_on_the_number_of_threads(engine: LlamaCpp, q8_0: ModelFile, demo: ModelConfig) -> None:
    # The engine's identity leaves the threads out, so that machines with more cores can be compared.
    prompt = raw(engine, BEGINNINGS[0])
    two = LlamaCpp(q8_0, demo, replace(ONE_THREAD, threads=2))
    try:
        assert answer(two, prompt, Decoding(6)) == answer(engine, prompt, Decoding(6))
        assert two.identity == engine.identity
    finally:
        two.close()


# Where an answer ends


def test_every_end_of_generation_token_ends_an_answer(engine: LlamaCpp, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = engine._vocabulary
    ends = [
        token
        for token in range(llama_cpp.llama_vocab_n_tokens(vocabulary))
        if llama_cpp.llama_vocab_is_eog(vocabulary, token)
    ]
    assert len(ends) > 1
    prompt = raw(engine, BEGINNINGS[0])
    usual = answer(engine, prompt)
    sample = llama_cpp.llama_sampler_sample
    for end in ends:
        # The model seldom ends on any but its usual one; here it does, after three tokens.
        count = iter(range(100))
        monkeypatch.setattr(
            llama_cpp,
            "llama_sampler_sample",
            lambda *arguments, count=count, end=end: end if next(count) == 3 else sample(*arguments),
        )
        ended = answer(engine, prompt)
        assert (ended.finish_reason, ended.tokens) == ("stop", usual.tokens[:3])
        assert usual.text.startswith(ended.text)


def test_the_model_ends_its_answer(engine: LlamaCpp) -> None:
    ended = answer(engine, asked(engine, "Say hello."), Decoding(100))
    assert ended.finish_reason == "stop"
    assert 0 < len(ended.tokens) < 100
    assert not any(llama_cpp.llama_vocab_is_eog(engine._vocabulary, token) for token in ended.tokens)
    assert "<|" not in ended.text
    # Exactly as many tokens as the answer has: the end comes one too late to be seen.
    assert answer(engine, asked(engine, "Say hello."), Decoding(len(ended.tokens))).finish_reason == "length"


def test_max_tokens(engine: LlamaCpp) -> None:
    prompt = raw(engine, BEGINNINGS[0])
    longest = answer(engine, prompt, Decoding(12))
    for limit in (1, 5, 12):
        cut = answer(engine, prompt, Decoding(limit))
        assert (cut.finish_reason, cut.tokens) == ("length", longest.tokens[:limit])


def test_stop_strings(engine: LlamaCpp) -> None:
    prompt = raw(engine, "Count: 1, 2, 3,")
    whole = answer(engine, prompt)
    assert whole.text.startswith(" 4, 5, 6, 7")

    def stopped(*stop: str) -> Completion:
        return answer(engine, prompt, replace(SHORT, stop=stop))

    # Each of the digits, commas and spaces is a token of its own, so these span several.
    assert stopped("never", ", 6, 7").text == " 4, 5"
    cut = stopped(", 6")
    assert (cut.text, cut.finish_reason) == (" 4, 5", "stop")
    assert cut.tokens == whole.tokens[: len(cut.tokens)]  # those of the stop string included
    assert len(cut.tokens) == len(", 6 4, 5")
    # The first in the text, whatever the order in the configuration.
    assert stopped(", 7", ", 5").text == stopped(", 5", ", 7").text == " 4"
    # Two that end with the same token: the one that begins first.
    assert stopped("6", "5, 6").text == stopped("5, 6", "6").text == " 4, "
    assert stopped(" ").text == ""
    assert stopped("never", ", 6 ") == whole


def test_stop_string_within_a_token(engine: LlamaCpp) -> None:
    prompt = raw(engine, BEGINNINGS[2])
    whole = answer(engine, prompt)
    word = next(word for word in whole.text.split() if len(word) > 3)
    middle = word[1:3]
    cut = answer(engine, prompt, replace(SHORT, stop=(middle,)))
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text.partition(middle)[0]


def test_characters_of_several_tokens_are_whole(engine: LlamaCpp) -> None:
    prompt = asked(engine, QUESTIONS[2])
    said = answer(engine, prompt, Decoding(14))
    assert said.text.startswith("🎉🎉🎉 café naïve")
    assert "\N{REPLACEMENT CHARACTER}" not in said.text
    assert len(engine.tokenize("🎉")) == 3
    assert answer(engine, prompt, Decoding(14, ("🎉 ",))).text == "🎉🎉"
    # One token of three is no character.
    assert answer(engine, prompt, Decoding(1)).text == "\N{REPLACEMENT CHARACTER}"


def test_prompt_that_does_not_fit(engine: LlamaCpp) -> None:
    fits = asked(engine, QUESTIONS[3])
    room = ONE_THREAD.context - len(fits.tokens)
    assert answer(engine, fits, Decoding(room, (" ",))).finish_reason == "stop"
    refused = answer(engine, fits, Decoding(room + 1))
    assert (refused.finish_reason, refused.text, refused.tokens) == ("context", "", ())
    # The others are answered.
    large = raw(engine, "word " * ONE_THREAD.context)
    both = answers(engine, [large, fits])
    assert both[large.item_id].finish_reason == "context"
    assert both[fits.item_id] == answer(engine, fits)


def test_the_last_place_in_the_context_is_used(q8_0: ModelFile, demo: ModelConfig) -> None:
    engine = LlamaCpp(q8_0, demo, replace(ONE_THREAD, context=256))
    try:
        prompt = raw(engine, "one two three " * 100)
        prompt = replace(prompt, tokens=prompt.tokens[: 256 - 4])
        filled = answer(engine, prompt, Decoding(4))
        assert (filled.finish_reason, len(filled.tokens)) == ("length", 4)
        assert answer(engine, prompt, Decoding(5)).finish_reason == "context"
    finally:
        engine.close()


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


def test_chat_template_of_the_users_choice(without_template: ModelFile, demo: ModelConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no-template\.gguf has no chat template; give one with model\.chat_template"):
        LlamaCpp(without_template, demo, ONE_THREAD)
    assert not mapped(without_template.path)  # a refused model does not stay in memory

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


def test_gpu_layers_on_a_cpu_build(q8_0: ModelFile, demo: ModelConfig) -> None:
    if llama_cpp.llama_supports_gpu_offload():
        pytest.skip("this build of llama-cpp-python has GPU support")
    for layers in (-1, 10):
        with pytest.raises(UserError, match=rf"gpu_layers={layers} needs .*set engine\.gpu_layers=0, or install a GPU"):
            LlamaCpp(q8_0, demo, replace(ONE_THREAD, gpu_layers=layers))


def test_threads_default_to_the_cores_this_process_may_use(q8_0: ModelFile, demo: ModelConfig) -> None:
    allowed = os.sched_getaffinity(0)
    assert 1 <= usable_cores() <= len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_cores() == 1
        engine = LlamaCpp(q8_0, demo, EngineConfig("llama_cpp", context=256))
        try:
            assert llama_cpp.llama_n_threads(engine._context) == 1
            assert llama_cpp.llama_n_threads_batch(engine._context) == 1
        finally:
            engine.close()
    finally:
        os.sched_setaffinity(0, allowed)


def test_context_longer_than_training_is_mentioned(
    q8_0: ModelFile, demo: ModelConfig, caplog: pytest.LogCaptureFixture
) -> None:
    trained_for_less = replace(q8_0, training_context=128)
    LlamaCpp(trained_for_less, demo, replace(ONE_THREAD, context=256)).close()
    assert "engine.context=256 is more than the 128 tokens" in caplog.text
