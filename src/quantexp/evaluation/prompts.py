"""From items to prompts: the words, the worked examples, the model's chat template."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import takewhile
from typing import Any, TypeVar

from quantexp.config import ExamplePlace, ModelConfig, ReasoningEnd, TaskConfig
from quantexp.engines.base import Decoding, Engine, Message, Prompt, Thinking, Tool
from quantexp.tasks.base import Task
from quantexp.tasks.items import Item
from quantexp.tasks.reasoning import Start
from quantexp.tasks.requests import SEPARATOR, Generate, join_parts, open_chat, write_answer, write_user
from quantexp.tasks.tool_calls.schemas import describe_function
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

Group = TypeVar("Group")

_PROBE = "quantexp-probe"
"""A question that templates change to capitals at most."""


class Prompter:
    """Makes the prompts of one task for one model; the same words whichever quant."""

    def __init__(
        self,
        task: Task,
        config: TaskConfig,
        model: ModelConfig,
        examples: Sequence[Item],
        engine: Engine,
    ) -> None:
        self._task = task
        self._words = config.prompt
        self._examples, groups = group_examples(task, config.shots, examples)
        alike = replace(task, examples_by=None)
        self._groups = {name: Prompter(alike, config, model, own, engine) for name, own in groups.items()}
        self._engine = engine
        # Without instructions there is no turn that the answer could be to.
        answers_them = model.examples is ExamplePlace.answer and bool(config.prompt.instructions)
        self._in_answer = bool(self._examples or groups) and answers_them
        stop = (*config.stop, *((SEPARATOR,) if self._in_answer else ()))
        self.decoding = make_decoding(config, engine, stop)
        self._opening = open_chat(join_parts(model.system, config.prompt.system))
        # Examples have functions of their own, and a template has one place for all of a chat's.
        self._gives_tools = task.list_tools is not None and not self._examples and engine.takes_tools
        self._start = self._find_start()
        self._shared = find_common(*(self._encode(*self._probe(probe))[1] for probe in ("a", "1")))

    @property
    def hashes(self) -> dict[str, str]:
        """Identity of all that surrounds an item: words, examples, chat template, tokenizer; and of words and examples.

        The latter is what two chat templates have in common.
        """
        if self._groups:
            return join_hashes({name: each.hashes for name, each in self._groups.items()})
        placeholder, tools = self._probe("\N{OBJECT REPLACEMENT CHARACTER}")
        text, tokens = self._encode(placeholder, tools)
        request = self._request(placeholder, tools)
        parts = [self._item_words, self._engine.chat_template, text, tokens]
        words = [self._item_words, request.messages, request.begun]
        hashes = {"sha256": hash_parts(parts), "words_sha256": hash_parts(words)}
        if self._task.list_tools is not None:
            hashes["functions"] = "given beside the chat" if self._gives_tools else "described in words"
        return hashes

    def prompt(self, item: Item) -> Prompt:
        """Return the item's prompt.

        Raises:
            UserError: the words name a field that the item has not, or the template refuses them; or no worked examples
                are for such items.
        """
        if self._groups:
            return find_group(self._groups, self._task, item).prompt(item)
        request = self._request(self._filled(item.fields), self._list_tools(item.fields))
        try:
            text, tokens = self._engine.encode_chat(request.messages, request.begun, request.tools)
        except UserError as error:
            raise UserError(f"The item {one_line(item.id)} cannot be asked. {error}") from error
        shared = len(find_common(self._shared, tokens[:-1]))
        return Prompt(item.id, text, tokens, shared, messages=request.messages, tools=request.tools, start=self._start)

    def _find_start(self) -> Start:
        """Find where outputs begin: by what the template writes after the last turn, whatever that says.

        Raises:
            UserError: the answer is begun in the prompt, and the template has opened reasoning before it.
        """
        start = find_start(self._engine, self._opening)
        if start == "open" and self._in_answer:
            raise UserError(
                "model.examples=answer begins the model's answer, but the chat template has opened its reasoning: set "
                "model.examples=turns, or close the reasoning with an argument of the template (model.template)."
            )
        return start

    def columns(self, item: Item) -> dict[str, str]:
        """Fill the item table's columns for what was asked, without the template's words around it.

        `question` has the words that ask the item, `messages` the turns of the chat as JSON. The last turn is the
        assistant's if the answer is begun in the prompt.
        """
        if self._groups:
            return find_group(self._groups, self._task, item).columns(item)
        question = self._filled(item.fields)
        request = self._request(question, ())
        begun = [{"role": "assistant", "content": request.begun}] if request.begun else []
        return {"question": question, "messages": json.dumps([*request.messages, *begun], ensure_ascii=False)}

    def _encode(self, item: str, tools: tuple[Tool, ...]) -> tuple[str, tuple[int, ...]]:
        request = self._request(item, tools)
        return self._engine.encode_chat(request.messages, request.begun, request.tools)

    def _probe(self, word: str) -> tuple[str, tuple[Tool, ...]]:
        """Return words in place of an item's, and the like of its functions if these are given beside the chat."""
        function = {"name": word, "description": word, "parameters": {"type": "object", "properties": {}}}
        return word, ({"type": "function", "function": function},) if self._gives_tools else ()

    @property
    def _item_words(self) -> str:
        """The words that an item is filled into."""
        described = self._task.list_tools is not None and not self._gives_tools
        return (self._words.tools if described else None) or self._words.item

    def _list_tools(self, fields: Mapping[str, Any]) -> tuple[Tool, ...]:
        return self._task.list_tools(fields) if self._task.list_tools is not None and self._gives_tools else ()

    def _request(self, item: str, tools: tuple[Tool, ...]) -> Generate:
        """Return the chat that asks an item, and the beginning of the answer to it, if examples stand there."""
        max_tokens, stop = self.decoding.max_tokens, self.decoding.stop
        if self._in_answer:
            worked = [f"{asked}\n{self._words.answer} {gold}" for asked, gold in self._pairs()]
            begun = SEPARATOR.join([*worked, f"{item}\n{self._words.answer}"])
            return Generate((*self._opening, write_user(self._words.instructions)), max_tokens, stop, begun, tools)
        messages: list[Message] = []
        for asked, gold in self._pairs():
            messages += [write_user(asked), write_answer(gold)]
        first, *others = [*messages, write_user(item)]
        # In the first user turn, not in a system turn: some templates refuse the latter.
        # A template that is given the functions says itself how they are called.
        instructions = "" if self._gives_tools else self._words.instructions
        instructed = write_user(join_parts(instructions, first["content"]))
        return Generate((*self._opening, instructed, *others), max_tokens, stop, tools=tools)

    def _pairs(self) -> list[tuple[str, str]]:
        """Return the examples as they are asked and answered."""
        return [(self._filled(each.fields), self._task.target(each.fields)) for each in self._examples]

    def _filled(self, fields: Mapping[str, Any]) -> str:
        if self._task.list_tools is not None:
            fields = {**fields, "functions": "\n".join(map(describe_function, self._task.list_tools(fields)))}
        return fill_words(self._item_words, fields)


def find_start(engine: Engine, opening: tuple[Message, ...]) -> Start:
    """Find where outputs begin, by what the template writes after the last turn of a chat with this opening."""
    form = engine.reasoning
    if not form.marks:
        return "closed"
    text = engine.render((*opening, write_user(_PROBE)))
    return form.find_start(re.split(_PROBE, text, flags=re.IGNORECASE)[-1])


def check_shots(shots: int | None, examples: Sequence[Item], of: str = "") -> Sequence[Item]:
    """Return as many worked examples as are asked for.

    Raises:
        UserError: there are fewer.
    """
    shots = shots or 0
    if shots > len(examples):
        raise UserError(
            f"task.shots={shots} asks for more worked examples than the {len(examples)} there are{of}; lower it."
        )
    return examples[:shots]


def group_examples(
    task: Task, shots: int | None, examples: Sequence[Item]
) -> tuple[Sequence[Item], dict[str, Sequence[Item]]]:
    """Choose worked examples.

    Args:
        task: whose items are asked.
        shots: how many examples an item has.
        examples: all that there are.

    Returns:
        Those of all items; or, if items differ in them (`Task.examples_by`), none, and those of each kind of item.

    Raises:
        UserError: there are fewer than are asked for.
    """
    by = task.examples_by
    if by is None or not shots:
        return check_shots(shots, examples), {}
    groups: dict[str, list[Item]] = {}
    for example in examples:
        groups.setdefault(str(example.fields.get(by)), []).append(example)
    if not groups:
        return check_shots(shots, examples), {}
    for name, own in groups.items():
        check_shots(shots, own, f" for {by} {one_line(name)}")
    return (), dict(groups)


def find_group(groups: Mapping[str, Group], task: Task, item: Item) -> Group:
    """Return what belongs to an item's kind.

    Raises:
        UserError: there is nothing.
    """
    assert task.examples_by is not None
    name = str(item.fields.get(task.examples_by))
    if name not in groups:
        raise UserError(
            f"The item {one_line(item.id)} has the {task.examples_by} {one_line(name)}, for which there are no worked "
            "examples: add some, or set task.shots=0."
        )
    return groups[name]


def join_hashes(hashes: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Hash what surrounds the items of several kinds."""
    names = next(iter(hashes.values()))
    return {name: hash_parts([[kind, each[name]] for kind, each in sorted(hashes.items())]) for name in names}


def fill_words(words: str, fields: Mapping[str, Any]) -> str:
    """Fill an item's fields into `task.prompt.item`.

    Raises:
        UserError: the words name a field that the item has not.
    """
    try:
        return words.format_map(fields)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        names = ", ".join("{" + name + "}" for name in fields)
        raise UserError(f"task.prompt.item={words!r} cannot be filled ({error}); it may use {names}.") from error


def make_decoding(config: TaskConfig, engine: Engine, stop: Sequence[str]) -> Decoding:
    """Return how answers are written: by the task's sampling, up to these stop strings."""
    chosen = {key: value for key, value in asdict(config.sampling).items() if key != "samples"}
    return Decoding(config.max_tokens, tuple(stop), **chosen, thinking=_find_thinking(config, engine))


def _find_thinking(config: TaskConfig, engine: Engine) -> Thinking | None:
    """Return how the model may reason before it answers; None if it does not, as far as is known."""
    if not engine.reasoning_tokens:
        return None
    forced = engine.reasoning.forced if config.reasoning_end is ReasoningEnd.force else ""
    return Thinking(engine.reasoning.name, engine.reasoning_tokens, forced)


def hash_parts(parts: object) -> str:
    """sha256 of anything that JSON has a form of."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def find_common(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    """Return the tokens with which both begin."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    return tuple(token for token, _ in pairs)
