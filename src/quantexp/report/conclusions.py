"""Conclusions in sentences: of the whole sweep in two, of each task in one."""

from collections.abc import Iterable, Mapping

from quantexp.comparison.summary import Comparison, Condition, Summary
from quantexp.comparison.wording import has_verdicts, margin_text, reading, score_text
from quantexp.report.divergence import order_text
from quantexp.report.pools import model_outcomes, pool_outcomes
from quantexp.stats import Verdict

_FLOORED = (
    "the baseline scored no more than the margin on a task's items (worked examples, an easier task or a larger model "
    "would tell)"
)

_HARMLESS = {Verdict.within_margin, Verdict.worse_within_margin}


def verdict(summary: Summary) -> tuple[str, str]:
    """Two sentences: what is known of each quant, and what that means for a choice."""
    if not summary.comparisons:
        return "Nothing was compared.", _needs(summary)
    if not has_verdicts(summary):
        return _undecided(summary), (
            "No verdicts were asked for: these statistics never show a quant to be as good as the baseline."
        )
    smallest = f"; {_smallest(summary)}" if summary.has_bits else ""
    return write_outcome(summary), f"The margin is {margin_text(summary)}{smallest}."


def sentences(summary: Summary) -> list[str]:
    """Return the same, then the order by divergence, if it was measured, and what is missing, if anything is."""
    counts = {("job", "failed"): len(summary.failures), ("run", "not paired"): len(summary.refusals)}
    missing = [f"{count} {what}{'s' * (count > 1)} {which}" for (what, which), count in counts.items() if count]
    order = order_text(summary)
    return [
        *pool_outcomes(summary),
        *verdict(summary),
        *model_outcomes(summary),
        *([order] if order else []),
        *([f"Incomplete: {', '.join(missing)}."] if missing else []),
    ]


def write_outcome(summary: Summary) -> str:
    """Write the verdicts, one sentence per model, each quant once, over all tasks; empty without any."""
    return " ".join(filter(None, (_outcome_of(summary, model) for model in summary.models())))


def _outcome_of(summary: Summary, model: str) -> str:
    compared = _group_by_quant(summary, model).items()
    decided = {quant: [c.decision for c in of if c.decision is not None] for quant, of in compared}
    verdicts = {quant: {each.verdict for each in of} for quant, of in decided.items() if of}
    harmless = _harmless(summary, model)
    worse = [quant for quant, of in verdicts.items() if Verdict.worse in of]
    partly = [quant for quant, of in verdicts.items() if of <= _HARMLESS and quant not in harmless]
    floored = [quant for quant, of in verdicts.items() if Verdict.nothing_to_lose in of and quant not in worse]
    open_ones = [quant for quant in verdicts if quant not in {*worse, *floored}]
    held = [quant for quant in open_ones if any(each.held_back for each in decided[quant])]
    unclear = [quant for quant in verdicts if quant not in {*harmless, *worse, *partly, *floored, *held}]
    everywhere, somewhere = _places(summary, model)
    return _said(
        summary,
        model,
        {
            f"within the margin {everywhere}": harmless,
            "within the margin on the tasks compared, which are not all": partly,
            f"worse {somewhere}": worse,
            _FLOORED: floored,
            "inconclusive on at least one task, by the order of claims that begins with the pool": held,
            "inconclusive (too few items)": unclear,
        },
    )


def task_outcome(summary: Summary, model: str, task: str) -> str:
    """Conclude on each quant on one task, in a sentence that begins with a small letter."""
    ladder = summary.ladder(model, task)
    scored = [c for c in ladder if c.quant == summary.baseline]
    compared = summary.select_comparisons(model, task)
    against = f"the baseline {summary.baseline}"
    start = f"{against} has no score" if not scored else f"against {against}"
    if scored:
        start += f" at {score_text(scored[0].estimate)[0]} points"
    if not compared:
        return f"{start}; nothing was compared."
    told = [f"{c.quant} {_clause(reading(c))}" for c in compared]
    return f"{start}, {'; '.join(told)}."


def _clause(words: str) -> str:
    """Return a reading as it continues a sentence that began with the quant's name."""
    if words.startswith("undecided: "):
        return words.replace("undecided: ", "is undecided, ", 1)
    if words.startswith(("worse", "better", "within", "inconclusive")):
        return f"is {words}"
    if words.startswith("nothing to lose"):
        return f"has {words}"
    return f"has no usable interval: {words}"


def _needs(summary: Summary) -> str:
    """Write what a comparison lacks."""
    there = list(dict.fromkeys(c.quant for c in summary.conditions))
    if not there:
        return f"A comparison needs scores of the baseline {summary.baseline} and of a quant; there are none."
    if there == [summary.baseline]:
        return f"There are scores of the baseline {summary.baseline} alone: run a quant to compare with it."
    if summary.baseline not in there:
        return (
            f"There are scores of {_listed(there)}, and none of the baseline {summary.baseline}: run it, or set "
            "stats.baseline."
        )
    return (
        f"No run of {_listed(q for q in there if q != summary.baseline)} fits one of the baseline {summary.baseline}."
    )


def _undecided(summary: Summary) -> str:
    """Return the intervals, one sentence per model, where nothing was decided."""
    told = []
    for model in summary.models():
        by_quant = _group_by_quant(summary, model)
        worse = [quant for quant, of in by_quant.items() if any(c.difference.low > 0 for c in of)]
        calm = [quant for quant in by_quant if quant not in worse]
        shown = {
            f"the interval is above 0 (worse) {_places(summary, model)[1]}": worse,
            "no interval shows a loss, which does not mean that there is none": calm,
        }
        told.append(_said(summary, model, shown))
    return " ".join(filter(None, told))


def _group_by_quant(summary: Summary, model: str) -> dict[str, list[Comparison]]:
    found: dict[str, list[Comparison]] = {}
    for each in summary.comparisons:
        if each.model == model:
            found.setdefault(each.quant, []).append(each)
    return found


def _places(summary: Summary, model: str) -> tuple[str, str]:
    """Words for all of a model's tasks, and for one of them or more."""
    tasks = summary.tasks(model)
    return (f"on {tasks[0]}",) * 2 if len(tasks) == 1 else ("on all tasks", "on at least one task")


def _harmless(summary: Summary, model: str) -> list[str]:
    """Return the quants of a model that are within the margin on every task of it."""
    found = []
    for quant, of in _group_by_quant(summary, model).items():
        everywhere = {c.task for c in of} == set(summary.tasks(model))
        if everywhere and all(c.decision is not None and c.decision.verdict in _HARMLESS for c in of):
            found.append(quant)
    return found


def _smallest(summary: Summary) -> str:
    """Return the smallest file of each model that is within the margin everywhere."""
    several = len(summary.models()) > 1
    told = []
    for model in summary.models():
        harmless = _harmless(summary, model)
        everywhere = _places(summary, model)[0]
        of = f" of {model}" if several else ""
        if not harmless:
            told.append(f"no quant{of} has been shown to stay within it {everywhere}")
            continue
        baseline = [c for c in summary.conditions if (c.model, c.quant) == (model, summary.baseline)]
        files = [c for c in summary.conditions if c.quant in harmless and c.model == model]
        smallest = _size(min(files, key=lambda c: c.bits_per_weight), baseline)
        told.append(f"the smallest file{of} within it {everywhere} is {smallest}")
    return "; ".join(told)


def _size(file: Condition, baseline: list[Condition]) -> str:
    share = file.bits_per_weight / baseline[0].bits_per_weight if baseline else 1.0
    smaller = f", {1 - share:.0%} smaller than the baseline" if share < 0.995 else ""
    return f"{file.quant} ({file.bits_per_weight:.2f} bits per weight{smaller})"


def _said(summary: Summary, model: str, names: Mapping[str, list[str]]) -> str:
    parts = [f"{_listed(found)}: {words}" for words, found in names.items() if found]
    of = f"{model}: " if len(summary.models()) > 1 else ""
    return f"{of}{'; '.join(parts)}." if parts else ""


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
