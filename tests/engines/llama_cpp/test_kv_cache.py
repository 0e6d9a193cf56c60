"""Types of the KV cache, flash attention, and contexts by need: as exact as the defaults, or refused in a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.architectures import write_architecture
from tests.support.variants import mark_slow

from quantexp import models
from quantexp.config import EngineConfig, ModelConfig, QuantConfig
from quantexp.config.choices import UNQUANTIZED, FlashAttention, KVType
from quantexp.engines import Decoding, Prompt
from quantexp.engines.base import Continuation
from quantexp.engines.llama_cpp import contexts
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.llama_cpp.kv_cache import KVCache
from quantexp.engines.sequences import TokenSequence
from quantexp.models import ModelFile
from quantexp.util.errors import UserError

WHOLE = 1024
CONFIG = EngineConfig("llama_cpp", context=WHOLE, threads=1, lanes=8)
SHARED = 120
LENGTHS = (5, 40, 130, 150, 257, 520)
"""Of the prompts; the third and the fourth share their beginning, the last is read in two calls."""

WAYS = (Decoding(5), Decoding(5, temperature=1.0, top_k=40, top_p=0.95, presence_penalty=0.5, seed=3))

FLASH, PLAIN = FlashAttention.on, FlashAttention.off
CACHES = [
    KVCache(KVType.q5_1, KVType.q8_0, FLASH),
    KVCache(attention=PLAIN),
    # Variants of what these show.
    *(KVCache(kind, kind, FLASH) for kind in KVType),
    *(KVCache(kind, kind, PLAIN) for kind in (KVType.f32, KVType.bf16)),
    *(KVCache(KVType.q8_0, KVType.f16, attention) for attention in (FLASH, PLAIN)),
    KVCache(KVType.f16, KVType.q4_0, FLASH),
]


@contextmanager
def opened(model: tuple[ModelFile, ModelConfig], cache: KVCache, **keys: Any) -> Iterator[LlamaCpp]:
    config = replace(CONFIG, kv_key=cache.key, kv_value=cache.value, flash_attention=cache.attention, **keys)
    engine = LlamaCpp(*model, config)
    yield engine
    engine.close()


def asked(engine: LlamaCpp) -> list[Prompt]:
    numbers = np.random.default_rng(5).integers(100, 40_000, (len(LENGTHS), max(LENGTHS)))
    numbers[3, :SHARED] = numbers[2, :SHARED]
    return [
        Prompt(f"{length} tokens", "", tuple(map(int, row[:length])), SHARED if row[0] == numbers[2, 0] else 0)
        for row, length in zip(numbers, LENGTHS, strict=True)
    ]


Answers = dict[str, tuple[tuple[int, ...], tuple[float, ...]]]


def answers(engine: LlamaCpp, prompts: list[Prompt], decoding: Decoding) -> Answers:
    return {prompt.item_id: (each.tokens, each.logprobs) for prompt, each in engine.complete(prompts, decoding)}


def assert_exact(model: tuple[ModelFile, ModelConfig], cache: KVCache, monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Compare answers in any order, alone, after an interruption, by two threads, in a whole context and more lanes."""
    with opened(model, cache) as engine:
        prompts = asked(engine)
        expected = [answers(engine, prompts, way) for way in WAYS]
        assert engine._context.length == 768
        for way, together in zip(WAYS, expected, strict=True):
            assert len({each for each in together.values()}) == len(prompts)
            assert answers(engine, prompts[::-1], way) == together
            assert answers(engine, prompts[3:], way).items() <= together.items()
    with opened(model, cache) as engine:
        # A short context, which is made anew for the prompt that is too long for it.
        for prompt in (prompts[1], prompts[3], prompts[5], prompts[0]):
            assert answers(engine, [prompt], WAYS[0]).items() <= expected[0].items()
    with opened(model, cache, threads=2) as engine:  # few tokens: threads spin while another process has their core
        assert answers(engine, prompts[1:2], WAYS[0]).items() <= expected[0].items()
    with monkeypatch.context() as patch, opened(model, cache, lanes=12) as engine:
        patch.setattr(contexts, "fit_length", lambda _, __, most: most)
        for way, together in zip(WAYS, expected, strict=True):
            copies = [replace(each, item_id=f"{each.item_id}, {copy}") for copy in range(2) for each in prompts]
            for item, answer in answers(engine, copies, way).items():
                assert answer == together[item.partition(", ")[0]], item
        assert engine._context.length == WHOLE
    return expected[0]


@pytest.mark.parametrize(
    "kv", mark_slow(CACHES, after=2), ids=lambda kv: f"{kv.key.value}-{kv.value.value}-{kv.attention.value}"
)
def test_an_answer_depends_on_nothing_around_it_and_not_on_the_length_of_the_context(
    tiny: tuple[ModelFile, ModelConfig], kv: KVCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_exact(tiny, kv, monkeypatch)


@pytest.mark.slow  # the types one by one are the small model's, whose heads are as large
def test_the_embedded_model_is_as_exact(q8_0: ModelFile, demo: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_exact((q8_0, demo), KVCache(KVType.q5_1, KVType.q8_0), monkeypatch)


@pytest.mark.parametrize("architecture", ["gemma3", "lfm2"])
def test_contexts_by_need_change_no_answer_of_other_architectures(
    architecture: str, q8_0: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_architecture(architecture, q8_0.path, tmp_path / "model.gguf")
    config = ModelConfig(name="other", source="path", path=str(path))
    assert_exact((models.resolve(config, QuantConfig("F32", None))[0], config), KVCache(), monkeypatch)


def test_the_types_and_the_attention_are_really_used(tiny: tuple[ModelFile, ModelConfig]) -> None:
    kinds = (KVType.f16, KVType.q8_0, KVType.q4_0)
    caches = [KVCache(), *(KVCache(kind, kind) for kind in kinds[1:]), KVCache(attention=FlashAttention.off)]
    sequence = TokenSequence((*range(300, 340),), 1)
    found, read, keys = [], [], []
    for cache in caches:
        with opened(tiny, cache) as engine:
            prompts = asked(engine)[:2]
            found.append(answers(engine, prompts, WAYS[0])["40 tokens"][1])
            first, *others = sequence.tokens
            [(_, scores)] = engine.score([Continuation("", "", (first,), 0, continuation=(*others,))])
            read.append(np.array(scores.logprobs))
            keys.append((engine.key(prompts[0], WAYS[0]), tuple(engine.reading_facts([sequence]).items())))
    assert len(set(found)) == len(set(keys)) == len(caches)
    # The finer the cache, the nearer to 16 bits.
    off = [float(np.abs(each - read[0]).mean()) for each in read]
    assert 0 == off[0] < off[1] < off[2]
    assert 0 < off[3] < off[2]


def test_defaults_add_nothing_to_what_identifies_an_answer(engine: LlamaCpp) -> None:
    assert set(engine.settings) == {"engine", "library", "gpu_layers", "context", "lanes"}


def test_other_types_are_named_in_what_identifies_an_answer(tiny: tuple[ModelFile, ModelConfig]) -> None:
    with opened(tiny, KVCache(KVType.q8_0, KVType.f16, FlashAttention.off)) as engine:
        named = {key: engine.settings.get(key) for key in ("kv_key", "kv_value", "flash_attention")}
    assert named == {"kv_key": "q8_0", "kv_value": None, "flash_attention": "off"}


@pytest.mark.parametrize(
    ("kv", "words"),
    [
        (KVCache(), "(weights not repacked, no flash attention)"),
        (KVCache(KVType.q8_0, KVType.bf16), "(weights not repacked, no flash attention)"),
        (KVCache(attention=FlashAttention.off), "(weights not repacked, flash attention)"),
        (
            KVCache(KVType.q4_0, KVType.q4_0),
            "(weights not repacked; values in q4_0 leave no choice but flash attention)",
        ),
    ],
)
def test_a_variant_computes_by_the_other_attention_if_there_is_a_choice(
    tiny: tuple[ModelFile, ModelConfig], kv: KVCache, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tiny, kv) as engine:
        variant = engine.open_variant()
        assert variant is not None
        try:
            assert variant.words == f"by other kernels of llama.cpp {words}"
            [prompt] = asked(engine)[1:2]
            usual, other = (answers(each, [prompt], WAYS[0]) for each in (engine, variant))
            assert (usual != other) == (kv.value in UNQUANTIZED)  # these weights are in F32, which is never repacked
        finally:
            variant.close()
        # A library without such kernels leaves nothing to vary.
        monkeypatch.setattr(engine, "_repacked", False)
        has_choice = kv.value in UNQUANTIZED
        again = engine.open_variant()
        assert (again is not None) == has_choice
        if again is not None:
            again.close()


@pytest.fixture(scope="module")
def small_heads(q8_0: ModelFile, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFile, ModelConfig]:
    """A model whose heads have 16 numbers."""
    path = write_architecture("llama", q8_0.path, tmp_path_factory.mktemp("small-heads") / "model.gguf")
    config = ModelConfig(name="small-heads", source="path", path=str(path))
    return models.resolve(config, QuantConfig("F32", None))[0], config


def test_heads_that_no_block_fits_are_refused(small_heads: tuple[ModelFile, ModelConfig]) -> None:
    for name, cache in (("key", KVCache(key=KVType.q8_0)), ("value", KVCache(value=KVType.iq4_nl))):
        kind = max(cache.key, cache.value, key=lambda each: each not in UNQUANTIZED)
        with (
            pytest.raises(UserError, match=f"^engine.kv_{name}={kind.value} holds 32 numbers .* heads have 16: set "),
            opened(small_heads, cache),
        ):
            pass


def test_what_llama_cpp_alone_refuses_is_a_sentence_that_names_the_keys(
    small_heads: tuple[ModelFile, ModelConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KVCache, "check", lambda *_: None)
    reason = "K cache type q4_0 with block size 32 does not divide n_embd_head_k=16"
    advice = "lower engine.context, or set engine.lanes=1, or leave engine.kv_key out."
    cache = KVCache(key=KVType.q4_0)
    with opened(small_heads, cache) as engine, pytest.raises(UserError, match=f"{reason}; {advice}$"):
        answers(engine, asked(engine), WAYS[0])
    sequence = TokenSequence((5, 6, 7), 1)
    with opened(small_heads, cache) as engine, pytest.raises(UserError, match=f"{reason}; lower engine.context"):
        list(engine.distributions([sequence]))
