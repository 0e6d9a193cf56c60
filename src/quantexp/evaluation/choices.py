"""Multiple choice (`task=choice`): each choice's log-probability after its item, stored one by one.

Items are asked as lm-evaluation-harness asks them: in plain text, each choice after a space. An item's scores together
are its output, which graders read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quantexp.config import Config
from quantexp.engines import Completion, Engine, Prompt
from quantexp.engines.base import Continuation, ScoringEngine, as_scoring
from quantexp.evaluation.generation import Generated, complete_missing
from quantexp.evaluation.prompts import (
    fill_words,
    find_common,
    find_group,
    group_examples,
    hash_parts,
    join_hashes,
)
from quantexp.store import CompletionStore
from quantexp.tasks import Task
from quantexp.tasks.choice import ChoiceScore, format_scores, list_choices, parse_scores
from quantexp.tasks.items import Item
from quantexp.tasks.reasoning import Output
from quantexp.tasks.requests import SEPARATOR, Choose
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line


@dataclass(frozen=True, slots=True)
class Question:
    """An item with its choices, in tokens.

    Attributes:
        prompt: the item, up to where the choices begin.
        choices: of each its text.
        asked: of each its tokens after the item.
        alone: of each its tokens after the words that head an answer, without the item; none if nobody needs them.
    """

    prompt: Prompt
    choices: tuple[str, ...]
    asked: tuple[Continuation, ...]
    alone: tuple[Continuation, ...]


class ChoicePrompter:
    """Makes the prompts of multiple-choice items; the same words whichever quant."""

    def __init__(
        self, task: Task, config: Config, examples: Sequence[Item], engine: Engine, unconditional: bool
    ) -> None:
        """Take what surrounds an item.

        Args:
            task: whose items are asked.
            config: the job's.
            examples: worked ones.
            engine: the loaded model.
            unconditional: whether choices are scored without the item, too.
        """
        self._task = task
        self._words = config.task.prompt
        self._examples, groups = group_examples(task, config.task.shots, examples)
        alike = replace(task, examples_by=None)
        self._groups = {name: ChoicePrompter(alike, config, own, engine, unconditional) for name, own in groups.items()}
        self._engine: ScoringEngine = as_scoring(engine, f"task={config.task.name}")
        self._unconditional = unconditional
        worked = [f"{self._head(item.fields)} {task.target(item.fields)}" for item in self._examples]
        self._before = "".join(words + SEPARATOR for words in (self._words.instructions, *worked) if words)
        self._shared = find_common(*(self._engine.tokenize_plain(self._before + probe) for probe in ("a", "1")))

    @property
    def hashes(self) -> dict[str, str]:
        """Identity of all that surrounds an item: words, examples, tokenizer; and of words and examples alone."""
        if self._groups:
            return join_hashes({name: each.hashes for name, each in self._groups.items()})
        text = f"{self._before}\N{OBJECT REPLACEMENT CHARACTER}\n{self._words.answer}"
        words = ["plain text", self._words.item, text]
        return {"sha256": hash_parts([*words, self._engine.tokenize_plain(text)]), "words_sha256": hash_parts(words)}

    def question(self, item: Item) -> Question:
        """Return an item's question.

        Raises:
            UserError: the words name a field that the item has not, or a choice has no token of its own.
        """
        if self._groups:
            return find_group(self._groups, self._task, item).question(item)
        choices = tuple(list_choices(item.fields))
        request = Choose(self._before + self._head(item.fields), tuple(f" {choice}" for choice in choices))
        asked = self._tokenize(item, request)
        alone: tuple[Continuation, ...] = ()
        if self._unconditional:
            alone = self._tokenize(item, Choose(self._words.answer, request.choices))
        first = asked[0]
        return Question(Prompt(item.id, first.text, first.tokens, first.shared), choices, asked, alone)

    def columns(self, item: Item) -> dict[str, str]:
        """Fill the item table's column for the words that ask the item."""
        return {"question": fill_words(self._words.item, item.fields)}

    def _head(self, fields: Mapping[str, Any]) -> str:
        return f"{fill_words(self._words.item, fields)}\n{self._words.answer}"

    def _tokenize(self, item: Item, request: Choose) -> tuple[Continuation, ...]:
        """Cut context and choices into tokens as lm-evaluation-harness does.

        Spaces at the end of the context belong to the choice. Both are tokenized together; what is longer than the
        context's own tokens is the choice, also where a token at the seam would hold letters of both.
        """
        context = request.context.rstrip()
        spaces = request.context[len(context) :]
        tokens = self._engine.tokenize_plain(context)
        shared = len(find_common(self._shared, tokens[:-1]))
        found = []
        for number, choice in enumerate(request.choices):
            continuation = self._engine.tokenize_plain(context + spaces + choice)[len(tokens) :]
            if not continuation:
                raise UserError(
                    f"The item {one_line(item.id)} cannot be asked: its choice {one_line(choice)!r} has no token of "
                    "its own after the question; word it otherwise."
                )
            found.append(
                Continuation(item.id, context, tokens, shared, number, continuation=continuation, written=choice)
            )
        return tuple(found)


def score_choices(
    engine: Engine,
    questions: Sequence[Question],
    store: CompletionStore,
    about: Mapping[str, str],
    *,
    advance: Callable[[int], None] = lambda _: None,
    enough: Callable[[Prompt, Completion], bool] | None = None,
    **options: Any,
) -> Generated:
    """Score the choices of each question.

    Args:
        engine: what scores those that are missing.
        questions: in the order in which they are asked.
        store: where scores are looked up, and added one by one.
        about: what a person should read beside a stored score.
        advance: called with the number of questions whose choices have all been scored.
        enough: as for `complete_missing`, of a question's prompt and its output.
        options: as for `complete_missing`.

    Returns:
        One completion for each question, whose text is the scores of its choices; it counts single scores.
    """
    scoring = as_scoring(engine, "Scoring choices")
    # First, because contexts that follow each other share their beginning, and these share it with no item.
    alone_prompts = [each for question in questions for each in question.alone]
    alone = complete_missing(alone_prompts, scoring.score_key, scoring.score, store, about, **options)
    scores: list[Completion] = []
    outputs: list[Completion] = []
    places = iter(alone.completions)

    def is_enough(_: Continuation, completion: Completion) -> bool:
        """Join the scores of a question that is complete; return whether those after it are needed no more."""
        scores.append(completion)
        question = questions[len(outputs)]
        if len(scores) < len(question.asked):
            return False
        outputs.append(_join(question, scores, [next(places) for _ in question.alone]))
        scores.clear()
        advance(1)
        return enough is not None and enough(question.prompt, outputs[-1])

    asked_prompts = [each for question in questions for each in question.asked]
    asked = complete_missing(asked_prompts, scoring.score_key, scoring.score, store, about, enough=is_enough, **options)
    return Generated(tuple(outputs), asked.new + alone.new, asked.reused + alone.reused, asked.earlier + alone.earlier)


def _join(question: Question, scores: Sequence[Completion], alone: Sequence[Completion]) -> Completion:
    """Return a question's scores as one output, with the tokens of the likeliest choice."""
    every = [*scores, *alone]
    if any(each.finish_reason == "context" for each in every):
        return Completion((), (), "", "context", 0.0, 0.0)
    sums = [sum(each.logprobs) for each in scores]
    likeliest = scores[max(range(len(sums)), key=sums.__getitem__)]
    text = format_scores(
        [
            ChoiceScore(choice, total, score.length, sum(alone[place].logprobs) if alone else None, score.likeliest)
            for place, (choice, total, score) in enumerate(zip(question.choices, sums, scores, strict=True))
        ]
    )
    return Completion(
        tokens=likeliest.tokens,
        logprobs=likeliest.logprobs,
        text=text,
        finish_reason="stop",
        # All of it was read, so that there is no speed of writing.
        prompt_seconds=sum(each.prompt_seconds + each.generation_seconds for each in every),
        generation_seconds=0.0,
        counted=(len(question.prompt.tokens), sum(each.length for each in every)),
    )


def read_output(_: Prompt, completion: Completion) -> Output:
    """Return a question's scores as an output; its tokens are not counted, since none was written."""
    return Output(completion.text)


def list_likeliest(outputs: Sequence[Completion]) -> tuple[Completion, ...]:
    """Return each question's likeliest choice, as if the model had written it."""
    found = []
    for output in outputs:
        scores = parse_scores(output.text) or [ChoiceScore("", 0.0, 1)]
        likeliest = max(scores, key=lambda score: score.logprob)
        found.append(replace(output, text=f" {likeliest.choice}" if output.tokens else "", counted=None))
    return tuple(found)
