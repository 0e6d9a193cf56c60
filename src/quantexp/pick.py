"""`python -m quantexp.pick`: the smallest condition of a sweep that is within the margin and fits a memory."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quantexp.config import PickConfig
from quantexp.config.choices import FlashAttention, KVType
from quantexp.config.command_line import hydra_command
from quantexp.util.errors import UserError

if TYPE_CHECKING:
    from quantexp.comparison.pick import Memory, Pick
    from quantexp.comparison.summary import Condition, Summary
    from quantexp.models.footprint import Footprint
    from quantexp.report.pick import Needs
    from quantexp.tracking.reader import JobRecord

NOTHING, UNCERTAIN = 1, 3
"""Exit statuses; 2 is a user's mistake, 0 a pick."""

POWER = 0.8
"""Probability that the planned items show what they are to show, as `quantexp.plan` has it by default."""

_UNITS = {"": 1e9, "GB": 1e9, "GIB": 2**30, "MB": 1e6, "MIB": 2**20}


def read_budget(text: str) -> int:
    """Return the bytes that a budget such as `16GB`, `16 GiB` or `16` (GB) stands for.

    Raises:
        UserError: it is no number of bytes.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    unit = found and _UNITS.get(found[2].upper())
    if not found or not unit or not (budget := round(float(found[1]) * unit)):
        raise UserError(f"memory={text} is no memory; write 16GB (10^9 bytes each), 16GiB (2^30) or 800MB.")
    return budget


def find_memories(
    summary: "Summary", records: Mapping[str, "JobRecord"], context: int
) -> dict[tuple[str, str], "Memory"]:
    """Find the memory of each condition: from its file if that is at hand, else from what its run has recorded.

    Args:
        summary: of the sweep.
        records: of its runs, by id.
        context: tokens of one conversation.
    """
    from quantexp.comparison.pick import Memory
    from quantexp.models.footprint import find_footprint

    found: dict[tuple[str, str], Memory] = {}
    for each in summary.conditions:
        key = each.model, each.quant
        if each.file_bytes is None or each.is_placebo or key in found:
            continue
        measured = _measure(records[each.run_ids[-1]], each.file_bytes, context)
        footprint = measured or find_footprint(each.footprints, context)
        if footprint is not None:
            found[key] = Memory(each.file_bytes, footprint, is_measured=measured is not None)
    return found


def _measure(record: "JobRecord", file_bytes: int, context: int) -> "Footprint | None":
    """Measure with the run's own file and settings; None if that file is not here any more."""
    from quantexp.models.gguf import list_parts

    params = record.params
    path = Path(params.get("file.path", ""))
    parts = list_parts(path)
    if params.get("engine.name") != "llama_cpp" or not all(part.is_file() for part in parts):
        return None
    if sum(part.stat().st_size for part in parts) != file_bytes:
        return None
    from quantexp.engines.llama_cpp.footprint import measure_footprints
    from quantexp.engines.llama_cpp.kv_cache import KVCache

    cache = KVCache(
        KVType(params.get("engine.kv_key", KVType.f16.value)),
        KVType(params.get("engine.kv_value", KVType.f16.value)),
        FlashAttention(params.get("engine.flash_attention", FlashAttention.auto.value)),
    )
    [footprint] = measure_footprints(path, [context], cache)
    return footprint


def plan_items(
    summary: "Summary", picks: Iterable["Pick"], records: Mapping[str, "JobRecord"], alpha: float
) -> "Needs":
    """Plan the items that would show each uncertain candidate to be within the margin if it loses nothing."""
    from quantexp.comparison.spreads import measure_spread

    def find_runs(model: str, task: str, quant: str) -> list["JobRecord"]:
        [condition] = [each for each in summary.ladder(model, task) if each.quant == quant]
        return [records[run_id] for run_id in condition.run_ids]

    needs = {}
    for each in (comparison for one in picks for candidate in one.uncertain for comparison in candidate.comparisons):
        if each.decision is not None:
            runs = [find_runs(each.model, each.task, quant) for quant in (each.baseline, each.quant)]
            spread = measure_spread(*runs)
            needs[each.model, each.task, each.quant] = spread.items_to_show(
                each.decision.margin, power=POWER, alpha=alpha
            )
    return needs


def describe_speeds(conditions: Sequence["Condition"], records: Mapping[str, "JobRecord"]) -> str:
    """Say where speeds are from, to end a sentence; empty if none was measured."""
    timed = [records[run_id] for each in conditions if each.tokens_per_second for run_id in each.run_ids]
    if not timed:
        return ""
    processors = ", ".join(dict.fromkeys(each.tags.get("host.processor", "an unknown processor") for each in timed))
    alone = all(each.params.get("engine.lanes") == "1" for each in timed)
    how = "" if alone else ", of several answers that are written at once: one conversation alone is slower"
    return f"those of the sweep, on {processors}{how}"


@hydra_command("quantexp.pick", PickConfig)
def main(config: PickConfig) -> None:
    """Entry point."""
    from quantexp.comparison.analysis import compare_sweep
    from quantexp.comparison.pick import Outcome, Wish, decide_outcome, pick
    from quantexp.report.pick import report_pick
    from quantexp.report.pick_files import write_pick
    from quantexp.report.terminal import show_pick

    wish = Wish(config.context, None if config.memory is None else read_budget(config.memory), config.speed)
    _, _, compared = compare_sweep(config.tracking, config.sweep, config.runs, config.stats, "pick from")
    summary, records = compared.summary, {each.run_id: each for each in compared.records}
    memories = find_memories(summary, records, wish.context)
    picks = pick(summary, memories, wish)
    needs = plan_items(summary, picks, records, 1 - config.stats.confidence)
    report = report_pick(picks, wish, summary, needs, describe_speeds(summary.conditions, records))
    show_pick(report)
    written = write_pick(Path(config.out).expanduser(), compared, report, memories, wish.budget)
    print(f"pick: {', '.join(map(str, written))}")  # noqa: T201
    status = {Outcome.picked: 0, Outcome.uncertain: UNCERTAIN, Outcome.nothing: NOTHING}[decide_outcome(picks)]
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    main()
