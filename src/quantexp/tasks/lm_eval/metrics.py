"""Metrics of lm-evaluation-harness that a single document has, as graders.

A metric that exists over a corpus only, such as BLEU, a perplexity or an F1 of all labels, is refused: the mean of its
parts would be another number. IFEval's instruction-level accuracy counts all instructions of the corpus alike; a
document's own share is a metric by another name, which ends in BY_DOCUMENT.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from quantexp.tasks.choice import parse_scores
from quantexp.tasks.code import OUTCOMES
from quantexp.tasks.graders.base import Answer, Grade, Grader, JointGrading, Need
from quantexp.tasks.lm_eval.code_eval import CODE_EVAL
from quantexp.tasks.lm_eval.documents import DOCUMENT, PLACE, SUBTASK
from quantexp.tasks.lm_eval.harness import FOREIGN, Harness, describe_error, seeded
from quantexp.tasks.lm_eval.prompts import SCORES, WRITES
from quantexp.util.code_sandbox import Sandbox
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

FIRST = "first"
"""Stands for the first metric of a task."""

_NOTHING = "[invalid]"
"""What the harness's filters make of an output in which they find nothing."""


_POOLED = "agg_inst_level_acc"
"""How the harness calls the mean over the values of all documents, of which each has several."""

BY_DOCUMENT = "_by_document"
"""End of the name of a metric that is the mean of a document's own values."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of the outputs that a filter has passed.

    Attributes:
        name: of the metric.
        filter: of the filter; the harness calls the one that takes outputs as they are "none".
        grows: whether a better document has a higher value.
        filters: how many the task has.
        is_pooled: whether a document has several values, and the harness takes the mean over those of all documents.
    """

    name: str
    filter: str
    grows: bool
    filters: int
    is_pooled: bool = False

    @property
    def title(self) -> str:
        """Its name as a grader: with the filter's if there are several."""
        name = self.name + BY_DOCUMENT * self.is_pooled
        title = name if self.filters == 1 else f"{name}.{self.filter}"
        return re.sub(r"[^\w.-]", "_", title)  # it names files


def make_graders(harness: Harness, kind: str, chosen: str, sizes: Mapping[str, int]) -> tuple[dict[str, Grader], str]:
    """Make a grader of each metric that can be a score.

    Args:
        harness: the tasks, of a group those metrics that all of them have.
        kind: of their requests.
        chosen: the name of the one that is the score, with or without a filter, or `first`.
        sizes: documents by task.

    Returns:
        The graders by name, and the name of the chosen one.

    Raises:
        UserError: there is none, or none that is called so; or its mean over a group is not that of all documents.
    """
    names = list(harness.tasks)
    of_task = [_list_metrics(task) for task in harness.tasks.values()]
    shared = [each for each in of_task[0] if all(each.title in {other.title for other in some} for some in of_task)]
    rising = [each for each in shared if each.grows]
    whole = _list_corpus_metrics(harness)
    if not rising:
        over = f", and {', '.join(whole)} is of a whole corpus" if whole else ""
        raise UserError(f"task.name={harness.name} has no metric that a document has a score by{over}: choose another.")
    picked = next(
        (each for each in rising if chosen == each.title or (not each.is_pooled and chosen in (FIRST, each.name))), None
    )
    if picked is None and chosen in whole:
        raise UserError(
            f"task.metric={chosen} is made of a whole corpus, not of documents, so it has no mean of them: choose one "
            f"of {', '.join(each.title for each in rising)}."
        )
    if picked is None:
        raise UserError(
            f"task.metric={chosen}: {harness.name} has no such metric that is higher for a better document; choose one "
            f"of {', '.join(each.title for each in rising)}."
        )
    if len(names) > 1:
        _check_weights(harness, picked, sizes)
    return {each.title: _make_grader(harness, kind, each, rising) for each in rising}, picked.title


def _list_metrics(task: Any) -> list[Metric]:
    """Return the metrics that a document has."""
    from lm_eval.api.metrics import mean

    grows = task.higher_is_better()
    filters = [str(each.name) for each in task._filters]
    return [
        Metric(str(name), each, bool(grows.get(name, False)), len(filters), aggregate is not mean)
        for name, aggregate in task.aggregation().items()
        for each in filters
        if aggregate is mean or getattr(aggregate, "__name__", "") == _POOLED
    ]


def _list_corpus_metrics(harness: Harness) -> list[str]:
    from lm_eval.api.metrics import mean

    found = [task.aggregation().items() for task in harness.tasks.values()]
    return sorted({str(name) for items in found for name, aggregate in items if aggregate is not mean})


def _check_weights(harness: Harness, metric: Metric, sizes: Mapping[str, int]) -> None:
    """Refuse a group whose score is another mean than that of all documents."""
    if not harness.groups:
        return
    for each in harness.groups[0].aggregate_metric_list or ():
        fits = each.metric == metric.name and (each.filter_list is None or metric.filter in each.filter_list)
        if fits and (callable(each.aggregation) or (not each.weight_by_size and len(set(sizes.values())) > 1)):
            how = "has a mean of its own" if callable(each.aggregation) else "counts each of its tasks alike"
            shown = ",".join([*harness.tasks][:8])
            raise UserError(
                f"task.name={harness.name} {how}, whatever their size, and quantexp counts documents alike: name its "
                f"tasks instead, as in task.name={shown}."
            )


def _make_grader(harness: Harness, kind: str, metric: Metric, others: Sequence[Metric]) -> Grader:
    def grade(output: str, fields: Mapping[str, Any]) -> Grade:
        columns = [each.title for each in others if each != metric]
        responses = _read_responses(kind, output)
        if responses is None:
            return Grade.unreadable("not the scores of continuations", columns)
        found = _grade_document(harness, kind, fields, responses)
        values = {each.title: _read_metric(each, found[each.filter][0], len(others) == 1) for each in others}
        score = values[metric.title]
        if score is None or not 0 <= score <= 1:
            raise UserError(
                f"{metric.title} of the document {fields[PLACE]} of {fields[SUBTASK]} is "
                f"{one_line(str(found[metric.filter][0].get(metric.name)), 60)}, and a score lies between 0 and 1: "
                "choose another with task.metric."
            )
        shown = found[metric.filter][1]
        others_found = {name: values[name] for name in columns}
        fields_of_grade = {name: math.nan if value is None else value for name, value in others_found.items()}
        if shown == _NOTHING and score == 0:
            return Grade(0.0, None, fields_of_grade, error=f"nothing that the filter {metric.filter} looks for")
        return Grade(score, shown, fields_of_grade)

    how = "" if metric.filters == 1 else f" of what the filter {metric.filter} finds"
    words = f"{metric.name}{how}, as lm-evaluation-harness has it for {harness.name}"
    if any(task.config.unsafe_code for task in harness.tasks.values()):
        return _CodeGrader(metric.title, 1, words, grade, needs=frozenset({"sandbox"}))
    return Grader(metric.title, 1, words, grade)


class _CodeGrading(JointGrading):
    """Asks each task twice: first for what is to be run, then for its metric."""

    def __init__(self, grade: Callable[[str, Mapping[str, Any]], Grade], sandbox: Sandbox) -> None:
        self._grade, self._sandbox = grade, sandbox

    def grade_all(self, answers: Sequence[tuple[Answer, Mapping[str, Any]]]) -> Iterator[Grade]:
        for answer, fields in answers:
            self._grade(answer.text, fields)
        CODE_EVAL.run_wanted(self._sandbox)
        for answer, fields in answers:
            grade = self._grade(answer.text, fields)
            end = CODE_EVAL.last
            yield (
                grade
                if end is None
                else replace(
                    grade,
                    explanation=end.words or None,
                    outcomes={name: float(kind == end.kind) for kind, name in OUTCOMES.items()},
                )
            )


@dataclass(frozen=True, slots=True)
class _CodeGrader(Grader):
    """A metric of code, which runs in the sandbox."""

    @contextmanager
    def open(self, resources: Mapping[Need, Any]) -> Iterator[_CodeGrading]:
        yield _CodeGrading(self.grade, resources["sandbox"])


def _find_metric(found: Mapping[str, Any], name: str, is_only: bool) -> Any:
    """Return a metric's value; that of the only metric may have a name of its own, as pass_at_k calls it pass@1."""
    return next(iter(found.values())) if is_only and name not in found and len(found) == 1 else found.get(name)


def _read_responses(kind: str, output: str) -> list[Any] | None:
    """Return an output as the harness takes it: a text, or log-likelihoods with whether each is the likeliest."""
    if kind == WRITES:
        return [output]
    scores = parse_scores(output)
    if scores is None or any(score.likeliest is None for score in scores):
        return None
    return [(score.logprob, bool(score.likeliest)) for score in scores]


def _grade_document(
    harness: Harness, kind: str, fields: Mapping[str, Any], responses: Sequence[Any]
) -> dict[str, tuple[Mapping[str, Any], str]]:
    """Have the harness filter and grade the responses to a document.

    Returns:
        By filter the metrics, and in a word what was read.
    """
    from lm_eval.api.instance import Instance

    name, document = fields[SUBTASK], fields[DOCUMENT]
    task = harness.tasks[name]
    instances = [
        Instance(kind, document, (), place, (name, fields[PLACE], 1), [response])
        for place, response in enumerate(responses)
    ]
    task._instances = instances
    try:
        with seeded():
            task.apply_filters()
            found = {}
            for each in instances[0].filtered_resps:
                filtered = [instance.filtered_resps[each] for instance in instances]
                found[each] = task.process_results(document, filtered), _show_response(kind, filtered, fields)
    except FOREIGN as error:
        raise UserError(
            f"lm-evaluation-harness cannot grade the document {fields[PLACE]} of {name} ({describe_error(error)})."
        ) from error
    return found


def _show_response(kind: str, filtered: Sequence[Any], fields: Mapping[str, Any]) -> str:
    if kind != SCORES:
        # Filters of tasks that run code leave lists of candidates.
        shown = filtered[0]
        return str(shown[0] if isinstance(shown, list) and len(shown) == 1 else shown)
    if len(filtered) == 1:
        return str(fields["target"]) if filtered[0][1] else "something else"
    return f"choice {max(range(len(filtered)), key=lambda place: float(filtered[place][0])) + 1}"


def _read_metric(metric: Metric, found: Mapping[str, Any], is_only: bool) -> float | None:
    """Return a document's value, of several their mean; None if it is no finite number."""
    value = _find_metric(found, metric.name, is_only)
    if not metric.is_pooled:
        return _read_value(value)
    several = [_read_value(each) for each in value] if isinstance(value, list) else []
    known = [each for each in several if each is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(several) else None


def _read_value(value: Any) -> float | None:
    """Return a metric's value; None if it is no finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
