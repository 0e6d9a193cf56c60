"""Memory: the number of sequences that fit into it."""

import logging
import os
from pathlib import Path

import psutil

from quantexp.config import Config, EngineConfig, ModelConfig
from quantexp.engines.base import MOST_FORCED
from quantexp.engines.llama_cpp.kv_cache import KVCache, read_kv_cache
from quantexp.engines.llama_cpp.lanes import BLOCK, count_rows
from quantexp.engines.llama_cpp.tokenizer import Wording
from quantexp.models import ModelFile
from quantexp.models.footprint import CELLS
from quantexp.tasks.reasoning import ReasoningFormat, apply_task_budget, get_reasoning_tokens
from quantexp.util.errors import UserError
from quantexp.util.llama_library import llama_cpp, number_in, read_metadata, without_weights

log = logging.getLogger(__name__)

CPU_LANES = 16
"""Default on a CPU; see benchmarks/README.md: more gain little and lengthen the tail of a short run."""

GPU_LANES = 32
"""Default with layers on a GPU."""

FLOATS = {"ALL_F32": 32, "MOSTLY_F16": 16, "MOSTLY_BF16": 16}
"""Bits a weight of the types that are not quantized."""

MOST_BITS = 9
"""Bits a weight of every other type, at most: Q8_0 has 8.5."""

SHARE = 0.8
"""Of the free memory that KV caches may take; the rest is for everything else on the machine."""

CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
"""Where Linux says what a container may use and uses, in versions 2 and 1 of its control groups."""


def wanted_lanes(config: EngineConfig) -> int:
    """Return the number of lanes that the configuration asks for, as far as llama.cpp can have them."""
    wanted = config.lanes or (GPU_LANES if config.gpu_layers else CPU_LANES)
    return min(wanted, int(llama_cpp.llama_max_parallel_sequences()) // BLOCK * BLOCK)


def lanes_that_fit(model: llama_cpp.llama_model_p, config: EngineConfig, file_bytes: int) -> int:
    """Return the number of lanes for which memory holds the whole context: what is asked for, or fewer.

    Args:
        model: the loaded model.
        config: lanes, context, kv_memory_gb and the types of the cache.
        file_bytes: the model file's size; its pages must stay in memory beside the KV cache.

    Raises:
        UserError: not even one sequence fits.
    """
    wanted, room = wanted_lanes(config), _room(config, file_bytes)
    each = kv_bytes(model, config.context, read_kv_cache(config))
    fitting = next((lanes for lanes in _fewer(wanted) if room is None or count_rows(lanes) * each <= room), None)
    if fitting is None:
        raise UserError(
            f"A context of {config.context} tokens needs {each / 1e9:.1f} GB and there are "
            f"{max(room or 0, 0) / 1e9:.1f} GB for it; lower engine.context, or raise engine.kv_memory_gb if that is "
            "what limits it."
        )
    if fitting == 1 < wanted:
        log_lowered(wanted, 1, _shortage(wanted, each, room))
    return fitting


def choose_lanes(
    model: llama_cpp.llama_model_p, config: EngineConfig, file_bytes: int, fitting: int, length: int
) -> int:
    """Return the number of lanes to open for contexts that are shorter than the whole one.

    One lane stays one and several stay several, since these round differently: a job's answers are of one kind.

    Args:
        model: the loaded model.
        config: as for `lanes_that_fit`.
        file_bytes: the model file's size.
        fitting: what `lanes_that_fit` gave.
        length: tokens of context in each lane.
    """
    if fitting == 1:
        return 1
    wanted, room = wanted_lanes(config), _room(config, file_bytes)
    each = kv_bytes(model, length, read_kv_cache(config))
    several = [lanes for lanes in _fewer(wanted) if lanes >= fitting]
    lanes = next((lanes for lanes in several if room is None or count_rows(lanes) * each <= room), fitting)
    if lanes < wanted:
        log_lowered(wanted, lanes, _shortage(wanted, each, room))
    return lanes


def _shortage(lanes: int, each: int, room: int | None) -> str:
    """Say that so many lanes need more than there is."""
    return f"{lanes} need {count_rows(lanes) * each / 1e9:.1f} GB of {(room or 0) / 1e9:.1f} GB"


def _room(config: EngineConfig, file_bytes: int) -> int | None:
    """Bytes that there are for the KV cache; None if nobody can tell but the attempt."""
    if config.kv_memory_gb is not None:
        return int(config.kv_memory_gb * 1e9)
    if config.gpu_layers:
        return None  # the device's memory is not ours to see; opening the context tells
    return int(SHARE * (free_memory() - file_bytes))  # the file's pages must stay in memory too


def fit_length(model: llama_cpp.llama_model_p, needed: int, most: int) -> int:
    """Return the tokens of context to open for each lane: those that are needed, in whole steps of llama.cpp's.

    Models with two sets of rotary factors compute by the set for long contexts if theirs is longer than the one they
    were first trained for. So the context stays on the side of that length on which the whole one is.

    Args:
        model: the loaded model.
        needed: tokens of the longest prompt and its answer.
        most: tokens of the whole context.
    """
    architecture = read_metadata(model, "general.architecture")
    keys = ("rope.scaling.original_context_length", "context_length")
    first = next((n for key in keys if (n := number_in(model, f"{architecture}.{key}"))), most)
    if first < pad_cells(most):
        needed = max(needed, first + 1)
    return pad_cells(needed)


def room_of(form: ReasoningFormat, model: ModelConfig, engine: EngineConfig) -> int:
    """Return the tokens of context that an item needs: those for prompt and answer, and those for reasoning."""
    return engine.context + (get_reasoning_tokens(model) + MOST_FORCED if form.marks else 0)


def needed_bytes(source: ModelFile, config: Config) -> int:
    """Memory for a job's weights and its KV cache, before its file is made or loaded; an estimate from above.

    Args:
        source: the file that the quant is, or is made from.
        config: the job.
    """
    bits = FLOATS.get(config.quant.file_type or "", MOST_BITS)
    weights = max(source.bytes, source.parameters * bits // 8) if config.model.quantize else source.bytes
    if config.engine.gpu_layers == -1:
        return weights  # read through this memory on its way to the device, where the cache is
    with without_weights(source.path) as model:
        room = config.engine.context
        if model is not None:
            form = Wording(model, config.model, source).reasoning
            room = room_of(form, apply_task_budget(config), config.engine)
        cache = count_rows(config.engine.lanes or CPU_LANES) * kv_bytes(model, room, read_kv_cache(config.engine))
    most = config.engine.kv_memory_gb
    return weights + (cache if most is None else min(cache, int(most * 1e9)))


def log_lowered(wanted: int, lanes: int, reason: str) -> None:
    """Say that there will be fewer lanes, and what that means."""
    meaning = ""
    if lanes == 1 < wanted:
        meaning = "; one lane rounds differently from several, so its runs cannot be paired with theirs"
    log.warning("engine.lanes is lowered to %d: %s%s", lanes, reason, meaning)


def reduce_lanes(lanes: int) -> int | None:
    """Return the next smaller number of lanes worth trying; None after one."""
    return next((each for each in _fewer(lanes) if each < lanes), None)


def _fewer(lanes: int) -> list[int]:
    """From the number itself down by whole blocks of rows (a part of one saves nothing), then one."""
    return [lanes, *range((lanes - 1) // BLOCK * BLOCK, 0, -BLOCK), *([1] if lanes > 1 else [])]


def kv_bytes(model: llama_cpp.llama_model_p, context: int, cache: KVCache = KVCache()) -> int:  # noqa: B008 - frozen
    """Bytes of one sequence's KV cache; an estimate, as `KVCache.bytes_per_token`."""
    return round(cache.bytes_per_token(model) * pad_cells(context))


def pad_cells(tokens: int) -> int:
    """Round a number of tokens up to the steps in which llama.cpp allocates them."""
    return -(-tokens // CELLS) * CELLS


def free_memory() -> int:
    """Bytes that this process can still use: the machine's, or less where a container limits it."""
    free = psutil.virtual_memory().available
    for limit, used in CGROUPS:
        if limit.is_file() and (most := limit.read_text().strip()) != "max":
            free = min(free, int(most) - int(used.read_text()))
    if granted := os.environ.get("SLURM_MEM_PER_NODE"):  # in MiB; Slurm kills whoever takes more
        free = min(free, (int(granted) << 20) - psutil.Process().memory_info().rss)
    return int(free)
