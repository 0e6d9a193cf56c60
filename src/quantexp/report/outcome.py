"""What came out, in sentences: of the whole sweep in two, of each task in one."""

from collections.abc import Iterable

from quantexp.report.summary import Comparison, Condition, Summary, has_verdicts, margin_text, reading, score_text
from quantexp.stats import Verdict

_HARMLESS = {Verdict.within_margin, Verdict.worse_within_margin}

_Name = tuple[str, str]
"""A model and a quant of it."""


def verdict(summary: Summary) -> tuple[str, str]:
    """Two sentences: what is known of each quant, and what that means for a choice."""
    if not summary.comparisons:
        return (
            "Nothing was compared.",
            f"A comparison needs scores of the baseline {summary.baseline} and of a quant.",
        )
    if not has_verdicts(summary):
        return _undecided(summary), (
            "No verdicts were asked for: these statistics never show a quant to be as good as the baseline."
        )
    return outcome(summary), f"The margin is {margin_text(summary)}; {_smallest(summary)}."


def sentences(summary: Summary) -> list[str]:
    """The same, and where a job failed or a run could not be paired, a third that says so."""
    counts = {("job", "failed"): len(summary.failures), ("run", "not paired"): len(summary.refusals)}
    missing = [f"{count} {what}{'s' * (count > 1)} {which}" for (what, which), count in counts.items() if count]
    return [*verdict(summary), *([f"Incomplete: {', '.join(missing)}."] if missing else [])]


def outcome(summary: Summary) -> str:
    """The verdicts in a sentence, each quant once, by what is known of it on all tasks; empty where there are none."""
    verdicts: dict[_Name, set[Verdict]] = {}
    for comparison in summary.comparisons:
        if comparison.decision is not None:
            verdicts.setdefault((comparison.model, comparison.quant), set()).add(comparison.decision.verdict)
    harmless = _harmless(summary)
    worse = [name for name, of in verdicts.items() if Verdict.worse in of]
    partly = [name for name, of in verdicts.items() if of <= _HARMLESS and name not in harmless]
    floored = [name for name, of in verdicts.items() if Verdict.nothing_to_lose in of and name not in worse]
    unclear = [name for name in verdicts if name not in {*harmless, *worse, *partly, *floored}]
    said = {
        "within the margin on every task": harmless,
        "within the margin on the tasks compared, which are not all": partly,
        "worse on at least one task": worse,
        "the baseline scores too low on a task to lose the margin there (worked examples, an easier task or a larger "
        "model would tell)": floored,
        "these items cannot tell": unclear,
    }
    return _said(summary, said)


def task_outcome(summary: Summary, model: str, task: str) -> str:
    """What is known of each quant on one task, in a sentence that begins with a small letter."""
    ladder = summary.ladder(model, task)
    scored = [c for c in ladder if c.quant == summary.baseline]
    compared = summary.compared(model, task)
    against = f"the baseline {summary.baseline}"
    start = f"{against} has no score" if not scored else f"against {against}"
    if scored:
        start += f" at {score_text(scored[0].estimate)[0]} points"
    if not compared:
        return f"{start}; nothing was compared."
    told = [f"{c.quant} {_clause(reading(c))}" for c in compared]
    return f"{start}, {'; '.join(told)}."


def _clause(words: str) -> str:
    """A reading as it continues a sentence that began with the quant's name."""
    if words.startswith("undecided: "):
        return words.replace("undecided: ", "is undecided, ", 1)
    if words.startswith(("worse", "better", "within", "inconclusive")):
        return f"is {words}"
    if words.startswith("nothing to lose"):
        return f"has {words}"
    return f"has no usable interval: {words}"


def _undecided(summary: Summary) -> str:
    """The intervals in a sentence, where nothing was decided."""
    by_name: dict[_Name, list[Comparison]] = {}
    for comparison in summary.comparisons:
        by_name.setdefault((comparison.model, comparison.quant), []).append(comparison)
    worse = [name for name, of in by_name.items() if any(c.difference.low > 0 for c in of)]
    return _said(
        summary,
        {
            "the interval is above 0 (worse) on at least one task": worse,
            "no interval shows a loss, which does not mean that there is none": [n for n in by_name if n not in worse],
        },
    )


def _harmless(summary: Summary) -> list[_Name]:
    """The quants that are within the margin on every task of their model."""
    found = []
    for model, quant in dict.fromkeys((c.model, c.quant) for c in summary.comparisons):
        of = [c for c in summary.comparisons if (c.model, c.quant) == (model, quant)]
        everywhere = {c.task for c in of} == set(summary.tasks(model))
        if everywhere and all(c.decision is not None and c.decision.verdict in _HARMLESS for c in of):
            found.append((model, quant))
    return found


def _smallest(summary: Summary) -> str:
    """The smallest file of each model that is within the margin everywhere."""
    harmless = _harmless(summary)
    if not harmless:
        return "no quant is shown to be within it on every task"
    told = []
    for model in summary.models():
        baseline = [c for c in summary.conditions if (c.model, c.quant) == (model, summary.baseline)]
        files = [c for c in summary.conditions if (c.model, c.quant) in harmless and c.model == model]
        if files:
            told.append(_size(summary, min(files, key=lambda c: c.bits_per_weight), baseline))
    return f"the smallest file within it on every task is {_listed(told)}"


def _size(summary: Summary, file: Condition, baseline: list[Condition]) -> str:
    share = file.bits_per_weight / baseline[0].bits_per_weight if baseline else 1.0
    smaller = f", {1 - share:.0%} smaller than the baseline" if share < 0.995 else ""
    return f"{_name(summary, (file.model, file.quant))} ({file.bits_per_weight:.2f} bits a weight{smaller})"


def _said(summary: Summary, names: dict[str, list[_Name]]) -> str:
    parts = [f"{_listed(_name(summary, each) for each in found)}: {words}" for words, found in names.items() if found]
    return f"{'; '.join(parts)}." if parts else ""


def _name(summary: Summary, name: _Name) -> str:
    model, quant = name
    return quant if len(summary.models()) == 1 else f"{quant} of {model}"


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
