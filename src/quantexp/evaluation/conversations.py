"""Conversations, held turn by turn: the model's answer to one turn is part of the prompt of the next.

They are held in waves, so that many are answered at once. Each answer is stored under its own prompt, so that a
conversation that was interrupted goes on where it was. Waves are aligned at the end: the last one has all last turns.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from quantexp.config import Config, History
from quantexp.engines import Completion, Engine, Prompt
from quantexp.engines.base import Message
from quantexp.evaluation.answers import AnswerReader
from quantexp.evaluation.generation import Generated
from quantexp.evaluation.prompts import (
    check_shots,
    find_common,
    find_start,
    hash_parts,
    make_decoding,
)
from quantexp.tasks.items import Item
from quantexp.tasks.requests import Converse, join_parts, open_chat, write_answer, write_user
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

AnswerPrompts = Callable[[Sequence[Prompt], bool], Generated]
"""Prompts of one wave, and whether they are of the last one, in; their completions, in order, out."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation that has come as far as a prompt.

    Attributes:
        request: what is asked.
        prompt: the chat up to the turn that is to be answered next, or is answered last.
        turn: the place of that turn, counted from 0.
    """

    request: Converse
    prompt: Prompt
    turn: int

    @property
    def left(self) -> int:
        """Turns after this one."""
        return len(self.request.turns) - 1 - self.turn


class ConversationPrompter:
    """Makes the prompts of dialogues; the same words whichever quant, but for the model's own."""

    def __init__(self, config: Config, examples: Sequence[Item], engine: Engine) -> None:
        """Take what is around the items.

        Args:
            config: the job's.
            examples: dialogues that stand before each of the items', in the same chat, with good answers.
            engine: the loaded model.

        Raises:
            UserError: more worked examples are asked for than there are.
        """
        examples = check_shots(config.task.shots, examples)
        self._engine = engine
        self._history = config.task.history
        self._instructions = config.task.prompt.instructions
        system = join_parts(config.model.system, config.task.prompt.system)
        self._opening = open_chat(system)
        self._examples = [message for each in examples for message in _list_messages(each)]
        self.decoding = make_decoding(config.task, engine, config.task.stop)
        self._start = find_start(engine, self._opening)
        self._shared = find_common(*(self._engine.encode_chat(self._open_chat(probe))[1] for probe in ("a", "1")))

    @property
    def hashes(self) -> dict[str, str]:
        """Identity of all that surrounds an item, chat template and tokenizer included; of its words; the history."""
        placeholder = "\N{OBJECT REPLACEMENT CHARACTER}"
        chat = (*self._open_chat(placeholder), write_answer(placeholder), write_user(placeholder))
        words = [self._history.value, chat]
        text, tokens = self._engine.encode_chat(chat)
        return {
            "sha256": hash_parts([*words, self._engine.chat_template, text, tokens]),
            "words_sha256": hash_parts(words),
            "history": self._history.value,
        }

    def open(self, item: Item, sample: int) -> Conversation:
        """Return an item's conversation at the first turn that the model is to answer.

        Raises:
            UserError: the chat template refuses it.
        """
        turns = tuple(item.fields["turns"])
        replies = tuple(item.fields["replies"]) if self._history is History.gold else None
        messages = self._open_chat(turns[0])
        for reply, turn in zip(replies or (), turns[1:], strict=replies is not None):
            messages = (*messages, write_answer(reply), write_user(turn))
        prompt = self._make_prompt(item.id, sample, messages)
        return Conversation(Converse(turns, replies), prompt, 0 if replies is None else len(turns) - 1)

    def go_on(self, conversation: Conversation, reply: str) -> Conversation:
        """Return a conversation at its next turn, after the model's reply to this one."""
        turn = conversation.turn + 1
        messages = (*conversation.prompt.messages, write_answer(reply), write_user(conversation.request.turns[turn]))
        prompt = self._make_prompt(conversation.prompt.item_id, conversation.prompt.sample, messages)
        return Conversation(conversation.request, prompt, turn)

    def _make_prompt(self, item_id: str, sample: int, messages: tuple[Message, ...]) -> Prompt:
        try:
            text, tokens = self._engine.encode_chat(messages)
        except UserError as error:
            raise UserError(f"The item {one_line(item_id)} cannot be asked. {error}") from error
        shared = len(find_common(self._shared, tokens[:-1]))
        return Prompt(item_id, text, tokens, shared, sample, messages, self._start)

    def _open_chat(self, turn: str) -> tuple[Message, ...]:
        """Return a chat up to an item's first turn."""
        first, *others = (*self._examples, write_user(turn))
        return (*self._opening, write_user(join_parts(self._instructions, first["content"])), *others)


@dataclass(frozen=True, slots=True)
class Held:
    """Conversations that were held to their end.

    Attributes:
        prompts: of the last turns, in order; the chats before them are in their `messages`.
        generated: the answers to them; it counts those of earlier turns too.
    """

    prompts: tuple[Prompt, ...]
    generated: Generated


def hold(
    conversations: Sequence[Conversation], prompter: ConversationPrompter, engine: Engine, answer: AnswerPrompts
) -> Held:
    """Hold conversations to their end.

    Args:
        conversations: as `ConversationPrompter.open` returns them.
        prompter: makes the prompts of the turns that follow.
        engine: whose outputs they are, to be read.
        answer: answers the prompts of a wave.

    Returns:
        The last turns. One whose earlier turn did not fit the context stops there: that prompt is its last, not asked.
    """
    reader = AnswerReader(engine.reasoning)
    held = list(conversations)
    waves = []
    for left in range(max((each.left for each in held), default=0), 0, -1):
        places = [place for place, each in enumerate(held) if each.left == left]
        wave = answer([held[place].prompt for place in places], False)
        waves.append(wave)
        for place, completion in zip(places, wave.completions, strict=True):
            held[place] = _go_on(held[place], completion, prompter, engine, reader)
    last = answer([each.prompt for each in held], True)
    waves.append(last)
    generated = replace(
        last,
        new=sum(wave.new for wave in waves),
        reused=sum(wave.reused for wave in waves),
        earlier=sum(wave.earlier for wave in waves),
    )
    return Held(tuple(each.prompt for each in held), generated)


def _go_on(
    conversation: Conversation,
    completion: Completion,
    prompter: ConversationPrompter,
    engine: Engine,
    reader: AnswerReader,
) -> Conversation:
    """Take the model's reply as it is, cut off or not, but without its reasoning, as chat templates want it."""
    if completion.finish_reason == "context":
        # The prompt stays: at its last turn it does not fit either, and so the item counts as not asked.
        return replace(conversation, turn=conversation.turn + 1)
    output = engine.read_output(conversation.prompt, completion)
    reply = reader.read(output, completion.finish_reason == "length").text
    return prompter.go_on(conversation, reply)


def count_answers(conversations: Sequence[Conversation]) -> int:
    """Count the answers that conversations ask for."""
    return sum(each.left + 1 for each in conversations)


def list_columns(prompt: Prompt) -> dict[str, str]:
    """Fill the item table's columns for what was asked: the last turn, and all turns as JSON."""
    messages = [dict(message) for message in prompt.messages]
    return {"question": messages[-1]["content"], "messages": json.dumps(messages, ensure_ascii=False)}


def _list_messages(item: Item) -> list[Message]:
    """Return a whole dialogue, with good answers."""
    answers = (*item.fields["replies"], item.fields["answer"])
    pairs = zip(item.fields["turns"], answers, strict=True)
    return [message for turn, answer in pairs for message in (write_user(turn), write_answer(answer))]
