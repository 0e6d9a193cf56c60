"""Memory laid out without weights, held to what llama.cpp says when it takes it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from tests.support.architectures import write_architecture

from quantexp.config.choices import FlashAttention, KVType
from quantexp.engines.llama_cpp import footprint
from quantexp.engines.llama_cpp.footprint import measure_footprints, read_sizes, recall_footprints
from quantexp.engines.llama_cpp.kv_cache import KVCache
from quantexp.models import ModelFile
from quantexp.models.footprint import CONTEXTS, Footprint, find_footprint
from quantexp.util.errors import UserError
from quantexp.util.llama_library import captured_log, llama_cpp, quiet_llama

SETTINGS = [
    KVCache(),
    KVCache(KVType.q8_0, KVType.q8_0),
    KVCache(KVType.q8_0, KVType.q4_0, FlashAttention.on),
    KVCache(KVType.f32, KVType.f32),
    KVCache(attention=FlashAttention.off),
]


@contextmanager
def loaded(path: str) -> Iterator[tuple[llama_cpp.llama_model_p, float]]:
    """A model with its weights, and the MiB of the buffers that hold them."""
    quiet_llama()
    parameters = llama_cpp.llama_model_default_params()
    parameters.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
    with captured_log() as lines:
        model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
    assert model
    yield model, sum(find_mebibytes(lines, "model buffer"))
    llama_cpp.llama_model_free(model)


def find_mebibytes(lines: list[str], kind: str) -> list[float]:
    return [float(each[1]) for line in lines if (each := re.search(rf"{kind} size = +([0-9.]+) MiB$", line))]


def take(model: llama_cpp.llama_model_p, context: int, cache: KVCache) -> float:
    """The MiB that llama.cpp says it has taken for a context, as llama-server asks for it."""
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx, parameters.n_seq_max, parameters.n_outputs_max, parameters.swa_full = context, 1, 1, False
    cache.apply(parameters)
    with captured_log() as lines:
        opened = llama_cpp.llama_init_from_model(model, parameters)
    assert opened
    llama_cpp.llama_free(opened)
    taken = {kind: find_mebibytes(lines, f"{kind} buffer") for kind in ("KV", "RS", "compute", "output")}
    assert taken["KV"] or taken["RS"]
    assert taken["compute"]
    return sum(sum(each) for each in taken.values())


def test_the_figures_are_llama_cpps_own(q8_0: ModelFile) -> None:
    contexts = (300, 2048, 5000)
    with loaded(q8_0.path) as (model, weights):
        for cache in SETTINGS:
            for context, found in zip(contexts, measure_footprints(q8_0.path, contexts, cache), strict=True):
                taken = take(model, context, cache)
                assert found.cache + found.buffers == pytest.approx(taken * 2**20, rel=0.03), (cache, context)
                total = q8_0.bytes + found.cache + found.buffers
                assert total == pytest.approx((weights + taken) * 2**20, rel=0.03), (cache, context)


@pytest.mark.parametrize(
    "name", ["gemma3", *(pytest.param(each, marks=pytest.mark.slow) for each in ("mamba", "lfm2"))]
)
def test_the_figures_hold_for_windows_and_recurrent_states(name: str, q8_0: ModelFile, tmp_path: Path) -> None:
    path = str(write_architecture(name, q8_0.path, tmp_path / "model.gguf"))
    with loaded(path) as (model, _):
        for context, found in zip((512, 4096), measure_footprints(path, (512, 4096), KVCache()), strict=True):
            assert found.cache + found.buffers == pytest.approx(take(model, context, KVCache()) * 2**20, rel=0.03)


@pytest.mark.parametrize("settings", SETTINGS)
def test_what_runs_record_is_near_for_every_context(settings: KVCache, q8_0: ModelFile) -> None:
    recorded = measure_footprints(q8_0.path, CONTEXTS, settings)
    for exact in measure_footprints(q8_0.path, (2049, 3000, 10_000, 50_000, 131_072, 200_000), settings):
        near = find_footprint(recorded, exact.context)
        assert near is not None
        assert near.cache + near.buffers == pytest.approx(exact.cache + exact.buffers, rel=0.03)


def test_a_file_is_measured_once_in_a_process_for_each_kind_of_cache(
    q8_0: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = count()
    monkeypatch.setattr(footprint, "measure_footprints", lambda *_: (Footprint(512, next(numbers), 1),))
    first, again = (
        [recall_footprints(q8_0.path, digest, each) for digest in ("one", "another") for each in SETTINGS]
        for _ in range(2)
    )
    assert again == first
    assert len({*first}) == 2 * len(SETTINGS)
    recall_footprints.cache_clear()


def test_what_cannot_be_laid_out_is_a_sentence(q8_0: ModelFile, tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"could not lay .*no\.gguf out"):
        measure_footprints(tmp_path / "no.gguf", [512], KVCache())
    with pytest.raises(UserError, match="could not lay out a context of 512 tokens"):
        measure_footprints(q8_0.path, [512], KVCache(KVType.f16, KVType.q8_0, FlashAttention.off))
    with pytest.raises(UserError, match="does not say in its log"):
        read_sizes(["llama_kv_cache: another way of saying it"])
