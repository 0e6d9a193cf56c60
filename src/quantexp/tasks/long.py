"""Questions about long texts, made to measure by the model's own tokenizer.

An item has `question`, `answer`, a list of numbers or names, `candidates`, the names among which the right ones are,
`length` in tokens, `place`, the same in words with the depth, and `needles`, what its text hides, with `depths` in
percent. The text is made when it is asked for: as many tokens of filler as fit into the length beside the question and
the answer.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from quantexp.config import TaskConfig, Tokenizer
from quantexp.tasks.base import index_by_name, require_text
from quantexp.tasks.graders.base import Grade, Grader
from quantexp.tasks.items import Dataset, Item, fingerprint, make_items
from quantexp.tasks.long_filler import list_words, read_prose
from quantexp.tasks.long_items import VERSION, fill_text, make_rows
from quantexp.tasks.numbers import find_numbers
from quantexp.tasks.own_words import CountTokens, OwnWordsTask
from quantexp.tasks.requests import SEPARATOR, Context, ItemRequests, Message, join_parts, open_chat, write_user
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

LENGTHS = (1024, 2048)
"""Of the bundled items, unless the configuration says otherwise."""

SHORTEST = 512
"""Tokens of a text that has room for what is hidden in it."""

CHARACTERS, AROUND = 4, 8
"""With tokenizer=characters: characters that count as a token, and tokens that are added for each turn."""

CODE = 5
"""Digits of the numbers that needles have."""

ALL = "all"
"""Field of a grade: whether everything is right."""

_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen"),
)


def _find_given(output: str, fields: Mapping[str, Any]) -> list[str]:
    """Return the names or numbers that an output gives, each once, in order; of codes only numbers as long as these."""
    if candidates := fields["candidates"]:
        pattern = "|".join(re.escape(name) for name in sorted(candidates, key=len, reverse=True))
        by_folded = {name.casefold(): name for name in candidates}
        found = re.findall(rf"(?<!\w)(?:{pattern})(?!\w)", output, re.IGNORECASE)
        return list(dict.fromkeys(by_folded.get(name.casefold(), name) for name in found))
    right = fields["answer"]
    numbers = [number.value for number in find_numbers(output) if number.value is not None]
    if len(right[0]) == CODE:
        return list(dict.fromkeys(value for value in numbers if len(value) == CODE))
    numbers += [str(_WORDS.index(word)) for word in re.findall(r"[a-z]+", output.lower()) if word in _WORDS[2:]]
    # A year of the question that is said again is no answer to it.
    repeated = {number.value for number in find_numbers(fields["question"])} - {*right}
    return list(dict.fromkeys(value for value in numbers if value not in repeated))


def _grade(output: str, fields: Mapping[str, Any]) -> Grade:
    given, right = _find_given(output, fields), fields["answer"]
    if not given:
        return Grade.unreadable("no name or number of the kind that was asked for", (ALL,))
    hits = sum(each in right for each in given)
    share = hits / max(len(right), len(given))
    if len(right) == 1:
        share = float(share == 1)
    return Grade(score=share, extracted=", ".join(given), fields={ALL: float(share == 1)})


LONG = Grader(
    name="long",
    version=1,
    description="share of the numbers or names that were asked for, among those that are given",
    grade=_grade,
)
"""Exact. A single number or name is right or wrong: giving another one beside it is wrong. Of several, the score is the
number of right ones over that of all that were asked for, or of all that are given if these are more, so that listing
everything does not pay. The field `all` is 1 if exactly the right ones are given.

Looked for are the item's `candidates`, if it has any, else numbers: of five digits if those are asked for,
otherwise all but those that the question has.
"""


def _check(fields: Mapping[str, Any]) -> None:
    require_text(fields, "question")


def load_items(lengths: Sequence[int], tokenizer: Tokenizer) -> Dataset:
    """Make the items of some lengths; their texts are made when they are asked for."""
    rows = make_rows(lengths)
    counted = "by the model's tokenizer" if tokenizer is Tokenizer.model else f"of {CHARACTERS} characters"
    return Dataset(
        name="bundled",
        items=make_items(rows, TASK, "bundled/long"),
        examples=(),
        fingerprint=fingerprint([*rows, {"version": VERSION, "words": list_words()}]),
        facts={"lengths": f"{', '.join(map(str, lengths))} tokens {counted}"},
    )


def configure(config: TaskConfig) -> OwnWordsTask:
    """Return the task with the lengths, the words and the tokenizer that it is configured with.

    Raises:
        UserError: a length is too short or there twice, the words lack the text or the question, or worked examples
            are asked for.
    """
    lengths = list(config.lengths or LENGTHS)
    if min(lengths) < SHORTEST or len(set(lengths)) < len(lengths):
        raise UserError(
            f"task.lengths={lengths} must be different numbers of tokens, each at least {SHORTEST}; write them as "
            "task.lengths=[1024,4096]."
        )
    words = config.prompt.item
    if any(words.count(gap) != 1 for gap in ("{text}", "{question}")):
        raise UserError(f"task.prompt.item={one_line(words)} must hold {{text}} and {{question}}, each once.")
    if config.shots:
        raise UserError(f"task={config.name} shows no worked examples: leave task.shots out.")
    tokenizer, room = config.tokenizer, config.max_tokens

    def ask(items: Sequence[Item], system: str, count: CountTokens) -> Mapping[str, ItemRequests]:
        measure = count if tokenizer is Tokenizer.model else _count_characters

        def chat(text: str, question: str) -> tuple[Message, ...]:
            asked = words.replace("{question}", question).replace("{text}", text)
            return (*open_chat(system), write_user(join_parts(config.prompt.instructions, asked)))

        prose = read_prose()
        # What surrounds the texts, and the tokens of all prose: another tokenizer makes other texts of the same items.
        alike = tuple(Context("", chat(SEPARATOR.join(each), "?")) for each in (prose, prose[::-1]))
        if not measure(alike[0].messages):
            raise UserError(
                f"task={config.name} measures texts by the model's tokenizer, which only the server knows: set "
                f"task.tokenizer=characters, which counts {CHARACTERS} characters as a token, or engine=llama_cpp."
            )
        found = {}
        for item in items:
            question, most = item.fields["question"], item.fields["length"] - room
            text = fill_text(item.id, item.fields, lambda text: measure(chat(text, question)) <= most)  # noqa: B023
            if text is None:
                raise UserError(
                    f"The item {item.id} does not fit into {item.fields['length']} tokens together with "
                    f"task.max_tokens={room}: raise task.lengths, or lower task.max_tokens."
                )
            found[item.id] = ItemRequests(question, (Context("", chat(text, question)),), (), alike)
        return found

    return replace(TASK, load=lambda: load_items(lengths, tokenizer), ask=ask)


def _count_characters(messages: Sequence[Message]) -> int:
    return sum(AROUND + math.ceil(len(message["content"]) / CHARACTERS) for message in messages)


def _refuse(*_: object) -> Mapping[str, ItemRequests]:
    raise ValueError("configure the task before it asks anything")


TASK = OwnWordsTask(
    name="long",
    asks="needles",  # questions are alike
    required_fields=("question", "answer", "candidates", "needles", "depths"),
    target=lambda fields: ", ".join(fields["answer"]),
    check=_check,
    graders=index_by_name(LONG),
    default_grader=LONG.name,
    is_bundled=True,
    configure=configure,
    load=lambda: load_items(LENGTHS, Tokenizer.model),
    ask=_refuse,
    settings={},
)
"""Needles, variables, counts and reports in texts of some lengths."""
