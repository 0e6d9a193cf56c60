"""How many lanes are opened: what was asked for, or what memory holds, and never a crash."""

import logging
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from llama_cpp import llama_cpp

from quantexp.config import EngineConfig, ModelConfig
from quantexp.engines import Decoding, Prompt
from quantexp.engines.llama_cpp import memory
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.models import ModelFile
from quantexp.util.errors import UserError

CONFIG = EngineConfig("llama_cpp", context=512, threads=1)
EACH = 2 * 2 * 64 * 3 * 30 * 512 / 1e9
"""GB of one lane of the embedded model at 512 tokens: key and value of 3 heads of 64 16-bit numbers in 30 layers."""


def lanes(file: ModelFile, model: ModelConfig, config: EngineConfig) -> int:
    engine = LlamaCpp(file, model, config)
    try:
        prompt = Prompt("x", "", engine.tokenize("The capital of France is"), 0)
        [(_, answer)] = engine.complete([prompt], Decoding(2))
        assert len(answer.tokens) == 2
        assert llama_cpp.llama_n_seq_max(engine._context) >= engine.lanes
        return engine.lanes
    finally:
        engine.close()


def test_the_default_and_the_users_choice(q8_0: ModelFile, demo: ModelConfig, caplog: pytest.LogCaptureFixture) -> None:
    assert lanes(q8_0, demo, CONFIG) == memory.CPU_LANES
    assert lanes(q8_0, demo, replace(CONFIG, lanes=3)) == 3
    assert lanes(q8_0, demo, replace(CONFIG, lanes=1)) == 1
    assert "lowered" not in caplog.text


@pytest.mark.parametrize(("room", "opened"), [(16.1, 16), (15.9, 8), (8.1, 8), (7.9, 1), (1.1, 1)])
def test_lanes_are_lowered_to_what_fits(
    q8_0: ModelFile, demo: ModelConfig, caplog: pytest.LogCaptureFixture, room: float, opened: int
) -> None:
    assert lanes(q8_0, demo, replace(CONFIG, kv_memory_gb=room * EACH)) == opened
    lowered = [record for record in caplog.records if "engine.lanes is lowered" in record.message]
    assert len(lowered) == (opened < 16)
    assert all(("cannot be paired" in record.message) == (opened == 1) for record in lowered)


def test_a_context_that_does_not_fit_at_all(q8_0: ModelFile, demo: ModelConfig) -> None:
    with pytest.raises(UserError, match=r"A context of 512 tokens needs 0\.0 GB .* lower engine\.context"):
        LlamaCpp(q8_0, demo, replace(CONFIG, kv_memory_gb=0.5 * EACH))


def test_the_machines_memory_and_a_containers_limit_count(
    q8_0: ModelFile, demo: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Memory = namedtuple("Memory", ["available"])
    need = int(8.1 * EACH * 1e9 / memory.SHARE) + q8_0.bytes
    monkeypatch.setattr(memory, "CGROUPS", ())
    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory(need))
    assert lanes(q8_0, demo, CONFIG) == 8
    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory(100 * need))
    assert lanes(q8_0, demo, CONFIG) == 16
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(memory, "CGROUPS", ((limit, used), (tmp_path / "absent", tmp_path / "absent")))
    limit.write_text(f"{need + 1000}\n")
    used.write_text("1000\n")
    assert lanes(q8_0, demo, CONFIG) == 8
    limit.write_text("max\n")
    assert lanes(q8_0, demo, CONFIG) == 16


def test_llama_cpp_finds_no_memory(
    q8_0: ModelFile, demo: ModelConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = llama_cpp.llama_init_from_model
    monkeypatch.setattr(
        llama_cpp, "llama_init_from_model", lambda model, p: make(model, p) if p.n_seq_max <= 8 else None
    )
    with caplog.at_level(logging.WARNING):
        assert lanes(q8_0, demo, CONFIG) == 8
    assert "engine.lanes is lowered to 8: llama.cpp found no memory for 16" in caplog.text
    monkeypatch.setattr(llama_cpp, "llama_init_from_model", lambda *_: None)
    with pytest.raises(UserError, match=r"could not make a context of 512 tokens .*lower engine\.context"):
        LlamaCpp(q8_0, demo, CONFIG)
