"""A pick in sentences and tables: the answer, the runners-up, and what would have to be measured to know more."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from quantexp.comparison.pick import Candidate, Memory, Outcome, Pick, Quality, Wish
from quantexp.comparison.summary import Comparison, Summary
from quantexp.comparison.wording import difference_text, margin_text, round_items
from quantexp.report.columns import Column, DataTable, Grid
from quantexp.stats import FEW_CHANGED, Verdict

GIGABYTE = 999.5e6
"""Bytes from which a size is in GB: fewer read as less than 1,000 MB."""

Needs = Mapping[tuple[str, str, str], int]
"""Items in all that would show a condition to be within the margin if it loses nothing, by model, task and name."""


@dataclass(frozen=True, slots=True)
class PickPart:
    """A pick of one model, as people read it.

    Attributes:
        sentences: the first is the answer.
        grid: the candidates, the smallest first.
        narrow: the same for a terminal, with line breaks in its cells.
    """

    model: str
    sentences: tuple[str, ...]
    grid: Grid
    narrow: Grid


@dataclass(frozen=True, slots=True)
class PickReport:
    """A pick as people read it.

    Attributes:
        title: what was asked for.
        parts: one a model.
        notes: what a reader of the numbers needs to know.
    """

    title: str
    parts: tuple[PickPart, ...]
    notes: tuple[str, ...]


def report_pick(picks: Sequence[Pick], wish: Wish, summary: Summary, needs: Needs, speeds: str) -> PickReport:
    """Put picks into words.

    Args:
        picks: one a model.
        wish: what was asked for.
        summary: of the sweep.
        needs: of the comparisons that are not certain.
        speeds: where speeds are from, to end a sentence; empty if none was measured.
    """
    parts = [
        PickPart(
            each.model,
            tuple(describe_pick(each, wish, summary, needs)),
            pick_grid(each, _wide_columns(wish, summary), "→"),
            pick_grid(each, _narrow_columns(wish, summary), ">"),
        )
        for each in picks
    ]
    return PickReport(_describe_wish(wish), tuple(parts), tuple(pick_notes(picks, wish, speeds)))


def describe_pick(picked: Pick, wish: Wish, summary: Summary, needs: Needs) -> list[str]:
    """Write the answer for a model in sentences, the first of which is the answer itself.

    Args:
        picked: its candidates.
        wish: what was asked for.
        summary: of the sweep.
        needs: of the comparisons that are not certain.
    """
    chosen, unit = picked.chosen, f"the margin of {margin_text(summary)}"
    tasks = summary.tasks(picked.model)
    where = f"on {tasks[0]}" if len(tasks) == 1 else "on all tasks"
    asked = _describe_wish(wish)
    of = f"{picked.model}: " if len(summary.models()) > 1 else ""
    said = []
    if chosen is not None and chosen.quality is Quality.baseline:
        said.append(
            f"{of}{asked}, take {_name(chosen)}: nothing smaller that fits is shown to be within {unit} {where}."
        )
    elif chosen is not None:
        said.append(f"{of}{asked}, take {_name(chosen)}: it is the smallest that is within {unit} {where}.")
    elif picked.outcome is Outcome.uncertain:
        said.append(f"{of}{asked}, nothing is certain: of what fits, nothing is shown to be within {unit} {where}.")
    elif any(each.is_possible for each in picked.candidates):
        said.append(f"{of}{asked}, there is nothing to take: all that fits is worse than the baseline.")
    else:
        said.append(f"{of}{asked}, nothing fits{_describe_nearest(picked, wish)}.")
    if picked.runners_up:
        said.append(f"Runners-up: {', '.join(_name(each) for each in picked.runners_up)}.")
    smaller = "not certain" if chosen is None else "smaller, but not certain"
    for each in picked.uncertain:
        takes = ", and ".join(_describe_needs(each, summary, picked.model, needs))
        said.append(f"{_name(each)} is {smaller}: to tell takes {takes}.")
    return said


def _describe_wish(wish: Wish) -> str:
    demands = [f"for {format_bytes(wish.budget)}"] if wish.budget is not None else []
    demands += [f"at {wish.context:,} tokens of context"]
    demands += [f"and at least {wish.speed:g} tokens/s"] if wish.speed is not None else []
    line = " ".join(demands)
    return line[0].upper() + line[1:]


def _name(candidate: Candidate) -> str:
    """Name a candidate with what it takes, such as `Q4_K_M (5.9 GB)`."""
    size = "" if candidate.memory is None else f" ({format_bytes(candidate.memory.total)})"
    return f"{candidate.name}{', the baseline' if candidate.quality is Quality.baseline else ''}{size}"


def _describe_nearest(picked: Pick, wish: Wish) -> str:
    """Say what the smallest would take, or how fast the fastest is."""
    known = [each for each in picked.candidates if each.memory is not None]
    if not known:
        return ", as far as anybody knows: the memory of none is known"
    if not any(each.fits for each in known):
        return f": the smallest is {_name(known[0])}"
    timed = [each for each in known if each.fits and each.written is not None]
    if not timed or wish.speed is None:
        return " that is known to be as fast: speed was not measured"
    fastest = max(timed, key=lambda each: each.written or 0.0)
    return f": the fastest that has the room is {_name(fastest)} with {fastest.written:,.1f} tokens/s"


def _describe_needs(candidate: Candidate, summary: Summary, model: str, needs: Needs) -> Iterator[str]:
    """Say for each task that is not certain what would have to be measured."""
    for each in candidate.comparisons:
        if each.decision is not None and each.decision.verdict in (Verdict.inconclusive, Verdict.nothing_to_lose):
            yield _describe_need(each, summary, needs.get((model, each.task, each.quant)))
    for task in candidate.missing:
        yield f"a run on {task}, which is not there to compare"


def _describe_need(comparison: Comparison, summary: Summary, planned: int | None) -> str:
    task, count, decision = comparison.task, comparison.difference.n, comparison.decision
    assert decision is not None  # of an uncertain candidate
    if decision.verdict is Verdict.nothing_to_lose:
        return f"an easier task than {task}, on which the baseline has nothing to lose"
    if decision.further is not None and comparison.difference.changed >= FEW_CHANGED:
        more = decision.further.expected
        needed, words = count + more, f"about {round_items(more)} more items of {task}"
    elif comparison.difference.difference >= decision.margin:
        return f"more items of {task}, which may well show that it is worse"
    elif planned is not None and planned > count:
        needed, words = planned, f"some {round_items(planned)} items of {task} instead of {count:,}"
    else:
        return f"another task than {task}, of which no number of items is likely to tell"
    condition = summary.find_condition(comparison.model, task, comparison.quant)
    data = None if condition is None else condition.items_in_data
    return words if data is None or needed <= data else f"{words} (the data have {data:,})"


def _wide_columns(wish: Wish, summary: Summary) -> list[Column[Candidate]]:
    several = any(len(summary.tasks(model)) > 1 for model in summary.models())
    return [
        Column("condition", None, summary.noun, lambda c: c.name, "l"),
        Column("memory", None, "memory", lambda c: _size(c.memory, lambda m: m.total)),
        Column("file", None, "file", lambda c: _size(c.memory, lambda m: m.file)),
        Column("cache", None, "KV cache", lambda c: _size(c.memory, lambda m: m.footprint.cache)),
        Column("buffers", None, "buffers", lambda c: _size(c.memory, lambda m: m.footprint.buffers)),
        Column("read", None, "prompt, tokens/s", lambda c: _speed(c.read)),
        Column("written", None, "tokens/s", lambda c: _speed(c.written)),
        Column("difference", None, "largest loss, points", lambda c: " ".join(_largest_loss(c, several=several))),
        Column("quality", None, "verdict", _verdict, "l"),
        Column("place", None, "", lambda c: _place(c, wish), "l"),
    ]


def _narrow_columns(wish: Wish, summary: Summary) -> list[Column[Candidate]]:
    """Return the same columns for a terminal of 80: sums and intervals stand on lines of their own."""
    several = any(len(summary.tasks(model)) > 1 for model in summary.models())
    return [
        Column("condition", None, summary.noun, lambda c: "\n".join(filter(None, (c.name, _place(c, wish)))), "l"),
        Column("memory", None, "memory\nfile+KV+buffers", _sum_of_sizes),
        Column("speed", None, "tokens/s\nread, written", lambda c: f"{_speed(c.read)}\n{_speed(c.written)}"),
        Column("difference", None, "largest loss\n(points)", lambda c: "\n".join(_largest_loss(c, several=several))),
        Column("quality", None, "verdict", _verdict, "l"),
    ]


def pick_grid(picked: Pick, columns: Sequence[Column[Candidate]], arrow: str) -> Grid:
    """Return the candidates of a model as a table, the smallest first; an arrow is at the one that is picked."""
    grid = DataTable(columns, picked.candidates).show(*(each.key for each in columns))
    rows = tuple(
        (arrow if each is picked.chosen else "", *row) for each, row in zip(picked.candidates, grid.rows, strict=True)
    )
    return Grid(("", *grid.header), f"l{grid.sides}", rows)


def _size(memory: Memory | None, part: Callable[[Memory], int]) -> str:
    return "-" if memory is None else format_bytes(part(memory))


def _sum_of_sizes(candidate: Candidate) -> str:
    memory = candidate.memory
    if memory is None:
        return "-"
    parts = memory.file, memory.footprint.cache, memory.footprint.buffers
    unit = 1e9 if memory.total >= GIGABYTE else 1e6
    return f"{format_bytes(memory.total)}\n{'+'.join(f'{part / unit:.3g}' for part in parts)}"


def _speed(speed: float | None) -> str:
    return "-" if speed is None else f"{speed:,.1f}"


def _largest_loss(candidate: Candidate, *, several: bool) -> tuple[str, ...]:
    """Return the largest difference over the tasks, its interval, and its task if there are several."""
    if not candidate.comparisons:
        return ()
    worst = max(candidate.comparisons, key=lambda each: each.difference.difference)
    return *difference_text(worst.difference), *([f"on {worst.task}"] if several else [])


def _verdict(candidate: Candidate) -> str:
    if candidate.is_good:
        return candidate.quality.value
    wanted = {Verdict.worse} if candidate.quality is Quality.worse else {Verdict.inconclusive, Verdict.nothing_to_lose}
    tasks = [
        each.task for each in candidate.comparisons if each.decision is not None and each.decision.verdict in wanted
    ]
    tasks += list(candidate.missing) if candidate.quality is Quality.uncertain else []
    return f"{candidate.quality.value} on {', '.join(tasks)}"


def _place(candidate: Candidate, wish: Wish) -> str:
    """Say if it does as wished."""
    if candidate.fits is None:
        return "memory not known"
    if not candidate.fits:
        return "too large"
    if candidate.is_fast is None:
        return "speed not known"
    if not candidate.is_fast:
        return "too slow"
    return "" if wish.budget is None and wish.speed is None else "fits"


def pick_notes(picks: Sequence[Pick], wish: Wish, speeds: str) -> list[str]:
    """Write the notes that a reader of the numbers needs.

    Args:
        picks: what was found.
        wish: what was asked for.
        speeds: where speeds are from, to end a sentence; empty if none was measured.
    """
    known = [(each, each.memory) for one in picks for each in one.candidates if each.memory is not None]
    here = [each.name for each, memory in known if memory.is_measured]
    recorded = [each.name for each, memory in known if not memory.is_measured]
    unknown = [each.name for one in picks for each in one.candidates if each.memory is None]
    notes = [
        f"Memory: file, KV cache of one conversation of {wish.context:,} tokens, and the buffers in which llama.cpp "
        "computes, as llama-server lays them out by default; 1 GB is 10^9 bytes. Beside it a program takes some more, "
        "and so does a driver of a GPU."
    ]
    if here:
        notes.append(f"KV cache and buffers measured now, from the file without its weights: {', '.join(here)}.")
    if recorded:
        notes.append(
            f"KV cache and buffers as the runs recorded them, because the file is not here: {', '.join(recorded)}."
        )
    if unknown:
        notes.append(
            f"Memory not known, because the file is not here and the run has not recorded it: {', '.join(unknown)}. "
            "Run it again with force=true; its answers come from the store."
        )
    if any(each.uncertain for each in picks):
        notes.append(
            "Numbers of items are for an answer with 80% probability: of further ones if what was seen goes on, of all "
            "if the condition loses nothing. python -m quantexp.plan says what they cost."
        )
    if speeds:
        notes.append(f"Speeds are {speeds}.")
    return notes


def format_bytes(count: int) -> str:
    """Write a size with three digits, such as `5.91 GB` or `283 MB`."""
    unit, size = ("GB", count / 1e9) if count >= GIGABYTE else ("MB", count / 1e6)
    return f"{size:,.0f} {unit}" if size >= 100 else f"{size:.3g} {unit}"
