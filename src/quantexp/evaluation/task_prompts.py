"""Prompts in words of a task's own, in plain text or as chats, to be answered or to have continuations scored."""

import json
from collections.abc import Sequence

from quantexp.config import Config
from quantexp.engines import Engine, Prompt
from quantexp.engines.base import Continuation, ScoringEngine, as_scoring
from quantexp.evaluation.choices import Question
from quantexp.evaluation.prompts import find_common, hash_parts, make_decoding
from quantexp.tasks.items import Item
from quantexp.tasks.own_words import OwnWordsTask
from quantexp.tasks.reasoning import Start
from quantexp.tasks.requests import Context, ItemRequests, join_parts
from quantexp.tracking.tags import CATEGORY
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

Tokens = tuple[int, ...]


class TaskPrompter:
    """Makes the prompts of a task that has its own words; the same words whichever quant."""

    def __init__(
        self, task: OwnWordsTask, config: Config, items: Sequence[Item], engine: Engine, data: Sequence[Item]
    ) -> None:
        """Have the task say what it asks.

        Args:
            task: what asks.
            config: the job's.
            items: all that are asked.
            engine: the loaded model.
            data: the items that these were drawn from.
        """
        self._engine = engine
        self._title = f"task.name={config.task.name}"
        # Whichever items are drawn, the same ones say what surrounds them.
        firsts = {item.fields.get(CATEGORY): item for item in reversed(data)}.values()
        system = join_parts(config.model.system, config.task.prompt.system)
        asked = [*{item.id: item for item in (*items, *firsts)}.values()]
        self._requests = task.ask(asked, system, lambda messages: len(engine.encode_chat(messages)[1]))
        self._alike = [self._requests[item.id].alike for item in firsts]
        self._shared: dict[str, Tokens] = {}
        self.decoding = make_decoding(config.task, engine, config.task.stop)

    @property
    def hashes(self) -> dict[str, str]:
        """Identity of all that surrounds items, chat template and tokenizer included; and of its words alone."""
        contexts = [context for alike in self._alike for context in alike]
        words = [[context.text, context.messages] for context in contexts]
        form = self._engine.chat_template if any(context.messages for context in contexts) else "plain text"
        encoded = [self._encode(context) for context in contexts]
        return {"sha256": hash_parts([form, encoded]), "words_sha256": hash_parts(["the task's own", words])}

    def prompt(self, item: Item) -> Prompt:
        """Return an item's prompt.

        Raises:
            UserError: the chat template refuses it.
        """
        request = self._requests[item.id]
        [context] = request.contexts
        text, tokens = self._encode(context)
        shared = self._count_shared(request, tokens)
        return Prompt(item.id, text, tokens, shared, messages=context.messages, start=self._find_start(context, text))

    def question(self, item: Item) -> Question:
        """Return an item's continuations, each after its context.

        Raises:
            UserError: the chat template refuses it, or a continuation has no token of its own.
        """
        request = self._requests[item.id]
        asked = []
        for number, (context, written) in enumerate(zip(request.contexts, request.continuations, strict=True)):
            # Spaces at the end of the context belong to the continuation, as the harness has it.
            spaces = context.text[len(context.text.rstrip()) :]
            context = Context(context.text.rstrip(), context.messages)
            text, tokens = self._encode(context)
            if not tokens:
                raise UserError(
                    f"{self._title} scores continuations of a chat, whose tokens only the server knows: give the "
                    "tokenizer here, by model=local model.path=GGUF engine.prompt=tokens, or set task.chat=false."
                )
            continuation = self._find_continuation(context, tokens, spaces + written)
            if not continuation:
                raise UserError(
                    f"The item {one_line(item.id)} cannot be asked: its continuation {one_line(written)!r} has no "
                    "token of its own after the question."
                )
            shared = self._count_shared(request, tokens)
            asked.append(
                Continuation(item.id, text, tokens, shared, number, continuation=continuation, written=written)
            )
        first = asked[0]
        prompt = Prompt(item.id, first.text, first.tokens, first.shared)
        return Question(prompt, tuple(each.written.strip() or each.written for each in asked), tuple(asked), ())

    def columns(self, item: Item) -> dict[str, str]:
        """Fill the item table's columns for what was asked: `question`, and of a chat its turns as JSON."""
        request = self._requests[item.id]
        context = request.contexts[0]
        if not context.messages:
            return {"question": request.question}
        begun = [{"role": "assistant", "content": context.text}] if context.text else []
        return {
            "question": request.question,
            "messages": json.dumps([*context.messages, *begun], ensure_ascii=False),
        }

    @property
    def _scoring(self) -> ScoringEngine:
        return as_scoring(self._engine, f"{self._title} in plain text, or with scores of continuations,")

    def _encode(self, context: Context) -> tuple[str, Tokens]:
        if context.messages:
            return self._engine.encode_chat(context.messages, context.text)
        return context.text, self._scoring.tokenize_plain(context.text) or self._scoring.beginning

    def _find_continuation(self, context: Context, tokens: Tokens, written: str) -> Tokens:
        """Return the tokens that are more than the context's if both are tokenized together."""
        if context.messages:
            return self._engine.encode_chat(context.messages, context.text + written)[1][len(tokens) :]
        if not context.text:  # its token stands for no words, and the vocabulary may have put it there already
            return self._scoring.tokenize_plain(written)[len(self._scoring.bos) :]
        return self._scoring.tokenize_plain(context.text + written)[len(tokens) :]

    def _count_shared(self, request: ItemRequests, tokens: Tokens) -> int:
        """Count the leading tokens that contexts of this kind have in common, whichever of them are asked."""
        kind = repr(request.alike)
        if kind not in self._shared:
            first, *others = (self._encode(context)[1] for context in request.alike)
            self._shared[kind] = find_common(first, others[0]) if others else ()
        return len(find_common(self._shared[kind], tokens[:-1]))

    def _find_start(self, context: Context, text: str) -> Start:
        form = self._engine.reasoning
        if not form.marks:
            return "closed"
        if not context.messages:
            return "free"
        last = str(context.messages[-1]["content"]).strip()
        return form.find_start(text.rpartition(last)[2])
