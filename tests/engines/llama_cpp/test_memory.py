"""How many lanes are opened: what was asked for, or what memory holds, and never a crash."""

import logging
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from llama_cpp import llama_cpp

from quantexp.config import EngineConfig, ModelConfig
from quantexp.config.choices import KVType
from quantexp.engines import Decoding, Prompt
from quantexp.engines.llama_cpp import memory
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.models import ModelFile
from quantexp.util.errors import UserError

CONFIG = EngineConfig("llama_cpp", context=512, threads=1)
EACH = 2 * 2 * 64 * 2 * 4 * 512 / 1e9
"""GB of one lane of the tiny model at 512 tokens: key and value of 2 heads of 64 16-bit numbers in 4 layers."""

Model = tuple[ModelFile, ModelConfig]


def lanes(model: Model, config: EngineConfig, longest: int = 512) -> int:
    """How many answers are written at once, where the longest prompt and its answer take so many tokens."""
    engine = LlamaCpp(*model, config)
    try:
        context = engine._context.open(longest)
        prompt = Prompt("x", "", engine.tokenize("The capital of France is"), 0)
        [(_, answer)] = engine.complete([prompt], Decoding(2))
        assert len(answer.tokens) == 2
        assert engine._context.open(1) is context
        assert llama_cpp.llama_n_seq_max(context) >= engine.lanes
        assert llama_cpp.llama_n_ctx_seq(context) == engine._context.length
        return engine.lanes
    finally:
        engine.close()


def test_the_default_and_the_users_choice(tiny: Model, caplog: pytest.LogCaptureFixture) -> None:
    assert lanes(tiny, CONFIG) == memory.CPU_LANES
    assert lanes(tiny, replace(CONFIG, lanes=3)) == 3
    assert lanes(tiny, replace(CONFIG, lanes=1)) == 1
    assert "lowered" not in caplog.text


@pytest.mark.parametrize(("room", "opened"), [(16.1, 16), (15.9, 8), (8.1, 8), (7.9, 1), (1.1, 1)])
def test_lanes_are_lowered_to_what_fits(
    tiny: Model, caplog: pytest.LogCaptureFixture, room: float, opened: int
) -> None:
    assert lanes(tiny, replace(CONFIG, kv_memory_gb=room * EACH)) == opened
    lowered = [record for record in caplog.records if "engine.lanes is lowered" in record.message]
    assert len(lowered) == (opened < 16)
    assert all(("cannot be paired" in record.message) == (opened == 1) for record in lowered)


def test_a_shorter_context_has_room_for_more_lanes_but_never_makes_several_of_one(
    tiny: Model, caplog: pytest.LogCaptureFixture
) -> None:
    assert lanes(tiny, replace(CONFIG, kv_memory_gb=8.1 * EACH), longest=200) == 16
    assert "lowered" not in caplog.text
    assert lanes(tiny, replace(CONFIG, kv_memory_gb=7.9 * EACH), longest=200) == 1


def test_the_context_is_as_long_as_what_is_asked_needs(tiny: Model) -> None:
    engine = LlamaCpp(*tiny, replace(CONFIG, context=600, lanes=2))
    text = engine.tokenize("one two three " * 300)

    def length_after(tokens: int, longest: int) -> int:
        [_] = engine.complete([Prompt("x", "", text[:tokens], 0)], Decoding(longest, stop=(" ",)))
        return engine._context.length

    try:
        assert engine._context.length == 0
        assert length_after(700, 8) == 0  # it does not fit, and nothing is computed
        assert length_after(200, 56) == 256
        assert length_after(201, 56) == 512
        assert length_after(5, 8) == 512  # a longer one than needed stays
        assert length_after(590, 10) == 768
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("needed", "most", "length"), [(9, 4096, 256), (300, 300, 512), (9, 9000, 8448), (9, 8192, 256)]
)
def test_a_context_stays_on_its_side_of_the_length_where_rotary_factors_change(
    engine: LlamaCpp, needed: int, most: int, length: int
) -> None:
    assert memory.fit_length(engine.model, needed, most) == length  # trained for 8192


@pytest.mark.parametrize(
    ("key", "value"), [(KVType.f16, KVType.f16), (KVType.q8_0, KVType.f16), (KVType.q5_1, KVType.q4_0)]
)
def test_the_bytes_of_a_token_are_what_llama_cpp_keeps(tiny: Model, key: KVType, value: KVType) -> None:
    opened = LlamaCpp(*tiny, replace(CONFIG, lanes=1, kv_key=key, kv_value=value))
    try:
        text = opened.tokenize("one two three " * 30)
        states = []
        for tokens in (20, 52):
            list(opened.complete([Prompt("x", "", text[:tokens], 0)], Decoding(1)))
            states.append(llama_cpp.llama_state_seq_get_size(opened._context.open(1), 0))
        [per_token] = opened.sizes.values()
        # Beside keys and values, the state holds 12 bytes a token: its position and its sequence.
        assert (states[1] - states[0]) / 32 == per_token + 12
        assert lanes(tiny, replace(CONFIG, kv_key=key, kv_value=value, kv_memory_gb=8 * 512 * per_token / 1e9)) == 8
    finally:
        opened.close()


def test_a_context_that_does_not_fit_at_all(tiny: Model) -> None:
    with pytest.raises(UserError, match=r"A context of 512 tokens needs 0\.0 GB .* lower engine\.context"):
        LlamaCpp(*tiny, replace(CONFIG, kv_memory_gb=0.5 * EACH))


def test_the_machines_memory_and_a_containers_limit_count(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Memory = namedtuple("Memory", ["available"])
    need = int(8.1 * EACH * 1e9 / memory.SHARE) + tiny[0].bytes
    monkeypatch.setattr(memory, "CGROUPS", ())
    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory(need))
    assert lanes(tiny, CONFIG) == 8
    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory(100 * need))
    assert lanes(tiny, CONFIG) == 16
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(memory, "CGROUPS", ((limit, used), (tmp_path / "absent", tmp_path / "absent")))
    limit.write_text(f"{need + 1000}\n")
    used.write_text("1000\n")
    assert lanes(tiny, CONFIG) == 8
    limit.write_text("max\n")
    assert lanes(tiny, CONFIG) == 16


def test_llama_cpp_finds_no_memory(
    tiny: Model, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = llama_cpp.llama_init_from_model
    monkeypatch.setattr(
        llama_cpp, "llama_init_from_model", lambda model, p: make(model, p) if p.n_seq_max <= 8 else None
    )
    with caplog.at_level(logging.WARNING):
        assert lanes(tiny, CONFIG) == 8
    assert "engine.lanes is lowered to 8: llama.cpp found no memory for 16" in caplog.text
    monkeypatch.setattr(llama_cpp, "llama_init_from_model", lambda *_: None)
    advice = r"could not make a context of 512 tokens .*lower engine\.context, or set engine\.lanes=1, or leave "
    with pytest.raises(UserError, match=advice + r"engine\.kv_key out"):
        lanes(tiny, replace(CONFIG, kv_key=KVType.q8_0))
