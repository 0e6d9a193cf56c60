"""Metrics of a job: those of its answers, those of this run of it, and the line that sums them up."""

import os
import resource
import time
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import psutil

from quantexp.comparison.flips import flips
from quantexp.comparison.summary import FLOOR_COUNTS
from quantexp.config import Config
from quantexp.engines import Completion, Prompt
from quantexp.engines.registry import get_engine
from quantexp.evaluation.generation import Generated
from quantexp.evaluation.scoring import score_metrics
from quantexp.models import ModelFile
from quantexp.tasks.graders.base import ENDED_IN_REASONING
from quantexp.tasks.items import Dataset
from quantexp.tracking.tags import FLOOR
from quantexp.util.errors import UserError


def compute_metrics(config: Config, table: pd.DataFrame, file: ModelFile, unique_items: int) -> dict[str, float]:
    """Compute what follows from the answers and the file alone: the same whenever and wherever they were made."""
    if table["score"].isna().all():
        room = get_engine(config.engine.name).room.format(context=config.engine.context)
        raise UserError(
            f"None of the {len(table)} prompts of {config.task.name} fits {room} "
            f"together with task.max_tokens={config.task.max_tokens}; raise the one or lower the other."
        )
    reasons = table["finish_reason"]
    return {
        **score_metrics(table, config.stats),
        "items": table["item_id"].nunique(),
        "items_in_data": unique_items,
        "items_not_asked": int((reasons == "context").sum()),
        "items_cut_at_max_tokens": int(((reasons == "length") & (table["grading_error"] != ENDED_IN_REASONING)).sum()),
        "completion_tokens": int(table["completion_tokens"].sum()),
        "bits_per_weight": file.bits_per_weight,
        # 0: not known, of a model that only a server has.
        **({"model_bytes": file.bytes, "parameters": file.parameters} if file.bytes else {}),
    }


def floor_metrics(table: pd.DataFrame, again: pd.DataFrame) -> dict[str, float]:
    """Count what changed between two runs of the same job."""
    found = flips(table.assign(seed=0), again.assign(seed=0))
    return {f"{FLOOR}.{key}": getattr(found, key) for key in FLOOR_COUNTS}


class Meter:
    """The time that passes in a job, and the load of the machine meanwhile."""

    def __init__(self) -> None:
        self._started, self._load = time.perf_counter(), os.getloadavg()[0]
        self._busy, self._own = _busy_seconds(), _own_seconds()

    def read(self) -> dict[str, float]:
        """Return metrics: seconds since the start, load averages, and the share of the processor that others took."""
        seconds = time.perf_counter() - self._started
        others = max(0.0, _busy_seconds() - self._busy - (_own_seconds() - self._own))
        return {
            "run.wall_seconds": seconds,
            "run.load_start": self._load,
            "run.load_end": os.getloadavg()[0],
            "run.share_of_others": min(1.0, others / (seconds * (psutil.cpu_count() or 1))),
        }


def _busy_seconds() -> float:
    """Seconds that all processors have worked, whoever for; a guest's are among the user's."""
    times = psutil.cpu_times()
    return float(sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal")))


def _own_seconds() -> float:
    return float(sum(psutil.Process().cpu_times()[:4]))


def measure_reading(prompts: Sequence[Prompt], completions: Sequence[Completion], *, shares: bool) -> float | None:
    """Measure the speed at which prompts were read, in tokens a second; None if nobody has read or timed any.

    Args:
        prompts: with their tokens.
        completions: of these, in the same order.
        shares: whether the beginning that prompts share was read once (`Engine.shares_beginnings`). If it was read
            again, as after an interruption, the speed comes out too low.
    """
    answered = [pair for pair in zip(prompts, completions, strict=True) if pair[1].generation_seconds > 0]
    seconds = sum(completion.prompt_seconds for _, completion in answered)
    tokens = sum(len(prompt.tokens) for prompt, _ in answered)
    if shares and answered:
        shared = [prompt.shared for prompt, _ in answered]
        tokens -= sum(shared) - max(shared)
    return tokens / seconds if tokens > 0 and seconds > 0 else None


def collect_measures(generated: Generated, meter: Meter) -> dict[str, float]:
    """Return the measures of this run: different each time, so apart from the metrics of the answers.

    Speeds are of the time when a completion was generated, whichever run that was: of all answers together, and the
    10th and 90th percentile of single ones.
    """
    answered = [each for each in generated.completions if each.length]
    writing = sum(each.generation_seconds for each in answered)
    speeds = [each.length / each.generation_seconds for each in answered if each.generation_seconds > 0]
    spread = dict(zip(("low", "high"), np.quantile(speeds, (0.1, 0.9)).tolist(), strict=True)) if speeds else {}
    return {
        **meter.read(),
        **{f"run.tokens_per_second_{end}": speed for end, speed in spread.items()},
        "run.completions_generated": generated.new,
        "run.completions_from_store": generated.reused,
        "run.completions_before_declaration": generated.earlier,
        "run.tokens_per_second": sum(each.length for each in answered) / writing if writing > 0 else 0.0,
        # Of the process, so it includes what earlier jobs of the same process needed.
        "run.peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def description(data: Dataset, metrics: Mapping[str, float]) -> str:
    """Describe a job for MLflow's page until it is compared with another."""
    score, low, high = (100 * metrics[key] for key in ("score", "score_low", "score_high"))
    items = data.count_items(f"{metrics['items']:.0f}")
    return (
        f"Score {score:.1f} [{low:.1f}, {high:.1f}] points on {items}, "
        f"{metrics['bits_per_weight']:.2f} bits per weight. Not compared yet."
    )


def summary_line(
    name: str,
    data: Dataset,
    items: int,
    metrics: Mapping[str, float],
    generated: Generated,
    speeds: Mapping[str, float],
) -> str:
    """Return the one line that a finished job leaves on the terminal."""
    extras = {
        "items_not_asked": "did not fit the context",
        "items_cut_at_max_tokens": "cut at max_tokens",
        "items_unreadable": "unreadable",
        "items_unfinished": "unfinished",
        "items_ended_in_reasoning": "ended in reasoning",
    }
    speed = speeds["run.tokens_per_second"]
    noted = [f"{speed:.0f} tokens/s"] if speed else []  # 0: nothing was asked, or a server does not count
    noted += [f"{metrics[key]:.0f} {words}" for key, words in extras.items() if metrics.get(key)]
    asked = f"the first {metrics['items']:.0f} of {items}" if metrics["items"] < items else f"{items}"
    if metrics["items"] < items:
        noted.append("its verdict is known")
    if generated.reused:
        noted.append(f"{generated.reused} of {generated.reused + generated.new} completions from the store")
    details = f" ({', '.join(noted)})" if noted else ""
    return (
        f"{name}: score {metrics['score']:.3f} [{metrics['score_low']:.3f}, {metrics['score_high']:.3f}] on "
        f"{data.count_items(asked)}, {speeds['run.wall_seconds']:.0f} s{details}"
    )
