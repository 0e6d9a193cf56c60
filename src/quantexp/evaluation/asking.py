"""The ways in which a job asks a model: it writes answers, holds dialogues, scores choices, or reads plain text."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from quantexp.config import Config
from quantexp.config.condition import name_condition
from quantexp.config.identity import Identity
from quantexp.engines import Completion, Decoding, Engine, Prompt
from quantexp.engines.batch_invariance import answer_again, verify
from quantexp.evaluation.answers import AnswerReader
from quantexp.evaluation.conversations import ConversationPrompter, count_answers, hold, list_columns
from quantexp.evaluation.early_stopping import Stopping
from quantexp.evaluation.generation import Generated, generate
from quantexp.evaluation.job_identity import describe_file, describe_machine, identify
from quantexp.evaluation.job_plan import JobPlan
from quantexp.evaluation.prompts import Prompter
from quantexp.evaluation.resources import OpenGrader
from quantexp.evaluation.scoring import AnswerGrading
from quantexp.evaluation.task_prompts import TaskPrompter
from quantexp.models import ModelFile
from quantexp.models.footprint import write_footprints
from quantexp.store import CompletionStore
from quantexp.tasks.choice import needs_unconditional
from quantexp.tasks.items import Item
from quantexp.tasks.own_words import OwnWordsTask
from quantexp.tasks.reasoning import NONE
from quantexp.tasks.requests import Choose, Converse, Generate, Read, Request
from quantexp.tracking.run import Run
from quantexp.tracking.tags import DATA_FILE, DATA_ROWS, IDENTITY, MEMORY, STOPPED
from quantexp.util.environment import DECLARED
from quantexp.util.progress import bar

if TYPE_CHECKING:
    from quantexp.evaluation.choices import ChoicePrompter


@dataclass(frozen=True, slots=True)
class Repetition:
    """The same asked once more.

    Attributes:
        prompts: that were asked; of dialogues others, if earlier answers came out otherwise.
        completions: of the prompts, in order.
        how: in what way, in words.
    """

    prompts: tuple[Prompt, ...]
    completions: tuple[Completion, ...]
    how: str


@dataclass(frozen=True, slots=True)
class Responses:
    """The prompts of a job, and how the model responded.

    Attributes:
        items: all that the job would ask.
        prompts: those that were asked, in order.
        generated: the completions of the prompts, in the same order.
        grading: reads and grades them.
        columns: returns further columns of the per-item table for a prompt.
        unique_items: how many different items the data have.
        repeat: asks once more, for the noise floor; None of plain text and of choices, which are only read.
        chosen: of each item the likeliest choice; None of other tasks.
    """

    items: tuple[Item, ...]
    prompts: tuple[Prompt, ...]
    generated: Generated
    grading: AnswerGrading
    columns: Callable[[Prompt], Mapping[str, str]]
    unique_items: int
    repeat: Callable[[], Repetition] | None = None
    chosen: tuple[Completion, ...] | None = None

    @property
    def answers(self) -> tuple[Completion, ...]:
        """The completions as answers: of choices the likeliest one, as if the model had written it."""
        return self.generated.completions if self.chosen is None else self.chosen


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded model, its files, and the opened grader."""

    engine: Engine
    file: ModelFile
    source: ModelFile
    grader: OpenGrader


def ask(plan: JobPlan, loaded: Loaded, known: CompletionStore, tracked: Run) -> Responses:
    """Ask what the job's task asks, in the way of its requests.

    Args:
        plan: the job.
        loaded: what responds, and grades.
        known: the completions that exist already; new ones are added one by one.
        tracked: the job's run, which learns at once what the job is.

    Raises:
        UserError: an item cannot be asked, or no prompt fits the context.
    """
    return _WAYS[plan.task.request](plan, loaded, known, tracked)


def _ask_items(plan: JobPlan, loaded: Loaded, known: CompletionStore, tracked: Run) -> Responses:
    """Ask each item, or as many as the verdict needs."""
    config, engine, items = plan.config, loaded.engine, plan.items
    prompter: Prompter | TaskPrompter
    if isinstance(plan.task, OwnWordsTask):
        prompter = TaskPrompter(plan.task, config, items, engine, plan.data.items)
    else:
        prompter = Prompter(plan.task, config.task, plan.model, plan.data.examples, engine)
    prompts = tuple(
        replace(prompter.prompt(item), sample=sample)
        for item in items
        for sample in range(config.task.sampling.samples)
    )
    identity = _record_identity(plan, loaded, prompter.hashes, tracked)
    if config.engine.verify:
        tracked.log(metrics=verify(engine, prompts, prompter.decoding).metrics())
    grading = AnswerGrading(AnswerReader(engine.reasoning), loaded.grader.grade, items, engine.read_output)
    enough = _stopping(plan, identity, prompts, grading)
    with bar(plan.name, len(prompts)) as advance:
        generated = generate(
            engine, prompts, prompter.decoding, known, advance=advance, enough=enough, **_storing(config)
        )
    prompts = _asked(plan, prompts, generated, tracked)
    repeat = partial(_repeat, engine, prompts, prompter.decoding)
    return Responses(items, prompts, generated, grading, _list_columns(prompter, items), _count_unique(plan), repeat)


def _repeat(engine: Engine, prompts: tuple[Prompt, ...], decoding: Decoding) -> Repetition:
    again, how = answer_again(engine, prompts, decoding)
    return Repetition(prompts, tuple(again[prompt.item_id, prompt.sample] for prompt in prompts), how)


def _list_columns(
    prompter: "Prompter | TaskPrompter | ChoicePrompter", items: Sequence[Item]
) -> Callable[[Prompt], Mapping[str, str]]:
    columns = {item.id: prompter.columns(item) for item in items}
    return lambda prompt: columns[prompt.item_id]


def _hold_conversations(plan: JobPlan, loaded: Loaded, known: CompletionStore, tracked: Run) -> Responses:
    """Hold the dialogue of each item, or as many last turns as the verdict needs."""
    config, engine, items = plan.config, loaded.engine, plan.items
    prompter = ConversationPrompter(config, plan.data.examples, engine)
    samples = range(config.task.sampling.samples)
    begun = [prompter.open(item, sample) for item in items for sample in samples]
    opened = tuple(each.prompt for each in begun)
    identity = _record_identity(plan, loaded, prompter.hashes, tracked)
    if config.engine.verify:
        tracked.log(metrics=verify(engine, opened, prompter.decoding).metrics())
    grading = AnswerGrading(AnswerReader(engine.reasoning), loaded.grader.grade, items, engine.read_output)
    enough = _stopping(plan, identity, opened, grading)
    with bar(plan.name, count_answers(begun)) as advance:

        def answer(prompts: Sequence[Prompt], is_last: bool) -> Generated:
            ends = enough if is_last else None
            return generate(engine, prompts, prompter.decoding, known, advance=advance, enough=ends, **_storing(config))

        held = hold(begun, prompter, engine, answer)

    def repeat() -> Repetition:
        ways = []

        def answer(prompts: Sequence[Prompt], _: bool) -> Generated:
            found = _repeat(engine, tuple(prompts), prompter.decoding)
            ways.append(found.how)
            return Generated(found.completions, len(prompts), 0)

        again = hold(begun, prompter, engine, answer)
        return Repetition(again.prompts, again.generated.completions, ways[-1])

    prompts = _asked(plan, held.prompts, held.generated, tracked)
    return Responses(items, prompts, held.generated, grading, list_columns, _count_unique(plan), repeat)


def _score_choices(plan: JobPlan, loaded: Loaded, known: CompletionStore, tracked: Run) -> Responses:
    """Score the choices of each item, or of as many as the verdict needs; nothing is written."""
    from quantexp.evaluation import choices  # only here, as in `job.prepare`

    config, engine, items = plan.config, loaded.engine, plan.items
    unconditional = needs_unconditional(plan.grader)
    prompter: choices.ChoicePrompter | TaskPrompter
    if isinstance(plan.task, OwnWordsTask):
        prompter = TaskPrompter(plan.task, config, items, engine, plan.data.items)
    else:
        prompter = choices.ChoicePrompter(plan.task, config, plan.data.examples, engine, unconditional)
    questions = [prompter.question(item) for item in items]
    prompts = tuple(question.prompt for question in questions)
    identity = _record_identity(plan, loaded, prompter.hashes, tracked)
    grading = AnswerGrading(AnswerReader(NONE), loaded.grader.grade, items, choices.read_output)
    enough = _stopping(plan, identity, prompts, grading)
    with bar(plan.name, len(prompts)) as advance:
        generated = choices.score_choices(engine, questions, known, advance=advance, enough=enough, **_storing(config))
    prompts = _asked(plan, prompts, generated, tracked)
    chosen = choices.list_likeliest(generated.completions)
    columns = _list_columns(prompter, items)
    return Responses(items, prompts, generated, grading, columns, _count_unique(plan), chosen=chosen)


def _storing(config: Config) -> dict[str, Any]:
    """Say what stored completions belong to, which are taken, and which are earlier than the sweep's declaration."""
    about = {"model": config.model.name, "quant": config.quant.name, "task": config.task.name}
    declared = os.environ.get(DECLARED)
    return {"about": about, "reuse": config.store.reuse, "before": None if declared is None else float(declared)}


def _stopping(plan: JobPlan, identity: Identity, prompts: Sequence[Prompt], grading: AnswerGrading) -> Stopping | None:
    """Return what ends the job early; None if it answers all items."""
    if plan.rule is None:
        return None
    plan.rule.check(identity)
    return Stopping(plan.rule, prompts, plan.items, grading)


def _asked(plan: JobPlan, prompts: tuple[Prompt, ...], generated: Generated, tracked: Run) -> tuple[Prompt, ...]:
    """Return the prompts that were asked; if not all were, the run says so."""
    if plan.rule is None or len(generated.completions) == len(prompts):
        return prompts
    prompts = prompts[: len(generated.completions)]
    asked = len({prompt.item_id for prompt in prompts})
    tracked.log(tags={STOPPED: f"{asked} of {len(plan.items)} items ({plan.rule.words})"})
    return prompts


def _count_unique(plan: JobPlan) -> int:
    return len({item.cluster for item in plan.data.items})


def _read_windows(plan: JobPlan, loaded: Loaded, _: CompletionStore, tracked: Run) -> Responses:
    """Read windows of plain text; nothing is asked."""
    from quantexp.evaluation import plain_text  # only here, as in `job.prepare`

    given = plain_text.windows_of(loaded.engine, plan.data, plan.config)
    _record_identity(plan, loaded, {"sha256": given.sha256}, tracked)
    generated = plain_text.read(plan.config, plan.baseline, tracked, loaded.engine, given)
    grading = AnswerGrading(AnswerReader(NONE), loaded.grader.grade, given.items, loaded.engine.read_output)
    return Responses(given.items, given.prompts, generated, grading, lambda _: {}, given.cut)


def _record_identity(plan: JobPlan, loaded: Loaded, prompt: Mapping[str, str], tracked: Run) -> Identity:
    """Record what the job is, before its first answer."""
    config, data, file = plan.config, plan.data, loaded.file
    form = loaded.engine.reasoning if plan.task.request in (Generate, Converse) else NONE
    grader = {"id": plan.grader.id, **loaded.grader.identity}
    identity = identify(config, data, grader, file, loaded.source, loaded.engine, prompt, AnswerReader(form))
    tracked.log(
        params={"file.sha256": file.sha256, "file.path": file.path}
        | describe_file(config, file, loaded.source)
        | ({MEMORY: write_footprints(footprints)} if (footprints := loaded.engine.footprints) else {}),
        tags={IDENTITY + key: json.dumps(value) for key, value in identity.items()}
        | describe_machine(loaded.engine)
        | ({} if data.file is None else {DATA_FILE: data.file, DATA_ROWS: str(len(data.items))}),
    )
    # In MLflow's list, sorted by name, the quants of a task follow each other from few bits to many.
    tracked.rename(f"{config.task.name} {file.bits_per_weight:05.2f} {name_condition(config)} seed {config.seed}")
    tracked.log_dataset(f"{data.name}-{config.task.name}", data.fingerprint, len(data.items), data.name)
    return identity


_WAYS: Mapping[type[Request], Callable[[JobPlan, Loaded, CompletionStore, Run], Responses]] = MappingProxyType(
    {Generate: _ask_items, Converse: _hold_conversations, Choose: _score_choices, Read: _read_windows}
)
"""What is done for each kind of request."""
