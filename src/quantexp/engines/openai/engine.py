"""A model behind an OpenAI-compatible server: several requests at once, each answer as it comes.

No server promises the same answer to the same question: batching, prefix caches and GPUs round differently from one
time to the next. What it is, and which model it has, is recorded as far as it says; `engine.floor` measures the rest.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any

from quantexp.config import EngineConfig, ModelConfig, PromptForm
from quantexp.engines.base import (
    TELLS,
    Continuation,
    Decoding,
    Message,
    Prompt,
    PromptCompletion,
    Tool,
    decisive,
    hash_key,
)
from quantexp.engines.openai.concurrency import ask_at_once
from quantexp.engines.openai.prompt_logprobs import PromptReader
from quantexp.engines.openai.responses import THINKING_OFF, UngradableError, read_answer
from quantexp.engines.openai.sampling_fields import sampling_fields
from quantexp.engines.openai.server_identity import ServerIdentity, identify_server
from quantexp.engines.sequences import Likeliest, TokenSequence, hash_sequences
from quantexp.models import ModelFile
from quantexp.models.footprint import Footprint
from quantexp.store.completion import Completion
from quantexp.tasks.reasoning import HARMONY, THINK, Mark, Output, ReasoningFormat, find_marks, get_format
from quantexp.util.errors import UserError
from quantexp.util.openai_client import Access, NoAnswerError, Server, TooLongError

REVISION = 1
"""Part of every completion's key. Raise it with a change of this engine that can change an answer."""

MOST_FINGERPRINTS = 20
"""Set-ups of a server that are recorded by name: a server may have another one for each answer."""

log = logging.getLogger(__name__)


class OpenAIServer:
    """One model of one server.

    Attributes:
        identity: what the server says of itself and of the model.
        reasoning: the format in which reasoning is marked where the server has left it in the answer.
        reasoning_tokens: tokens of reasoning that it is granted beside those of an answer.

    Raises:
        UserError: nothing is there, it has not this model or another one than the file, or its key is wrong.
    """

    capabilities = TELLS
    footprints: tuple[Footprint, ...] = ()
    sizes: Mapping[str, float] = MappingProxyType({})
    shares_beginnings = False  # nobody knows what a server reads once

    def __init__(self, file: ModelFile, model: ModelConfig, engine: EngineConfig) -> None:
        assert engine.url is not None, "checked with the configuration"
        self.file, self._config = file, engine
        self.reasoning_tokens = model.reasoning_tokens or 0
        with ExitStack() as held:
            self._wording = None
            if engine.prompt is not PromptForm.messages:
                # Only here: it loads llama.cpp's libraries.
                from quantexp.engines.llama_cpp.tokenizer import open_tokenizer

                self._wording = held.enter_context(open_tokenizer(file, model))
            self._arguments = {} if self._wording else model.template
            self.reasoning = self._wording.reasoning if self._wording else _choose_format(model)
            if self._wording and self.reasoning.is_hidden and engine.extra_body.get("skip_special_tokens", True):
                raise UserError(
                    f"The model marks its reasoning by special tokens ({self.reasoning.name}), which a server leaves "
                    f"out of the text that engine.prompt={engine.prompt.value} asks for: set engine.prompt=messages, "
                    "or add 'engine.extra_body={skip_special_tokens: false}' for a server that knows it."
                )
            self._runner = held.enter_context(asyncio.Runner())
            access = Access(
                url=engine.url,
                model=engine.model or "",
                key_variable=engine.api_key_variable,
                timeout=engine.timeout,
                retries=engine.retries,
                url_option="engine.url",
                model_option="engine.model",
                variable_option="engine.api_key_variable",
                request_options="engine.prompt, engine.extra_body and task.sampling",
            )
            self._server = Server(access)
            held.callback(lambda: self._runner.run(self._server.client.close()))
            self.identity: ServerIdentity = self._runner.run(identify_server(self._server, engine, file))
            self._server.model = self.identity.model
            self._fingerprints: dict[str, None] = {}
            self._fingerprint, self._warned = "", False
            self._reader = PromptReader(self._server, self.identity.model, engine)
            self._logprobs = False
            self._logprobs = self._runner.run(self._tried())
            self._held = held.pop_all()

    @property
    def settings(self) -> Mapping[str, str]:
        """Fields that are sent; the server is in `machine`, since quants that need different ones can be compared."""
        given = {"extra_body": self._config.extra_body, "template": self._arguments}
        extra = {name: json.dumps(fields, sort_keys=True) for name, fields in given.items() if fields}
        return {"engine": "openai", "sent": self._config.prompt.value, **extra}

    @property
    def machine(self) -> Mapping[str, str]:
        """The server and the model, as they say; fingerprints are those of all answers so far."""
        return {
            "system": self.identity.system,
            "url": self._server.address,
            "model": self.identity.model,
            "root": self.identity.root,
            "template": self.identity.template_sha256,
            "fingerprints": _listed(list(self._fingerprints)),
            "logprobs": "yes" if self._logprobs else "not offered",
            "revision": str(REVISION),
        }

    @property
    def chat_template(self) -> str:
        """The template in the model's GGUF; empty where the server applies its own."""
        return self._wording.template if self._wording else ""

    def read_output(self, prompt: Prompt, completion: Completion) -> Output:
        """Return what the model wrote: the server's reasoning, and its answer, in which marks may be left."""
        reasoning, text, counted = completion.reasoning, completion.text, completion.reasoning_tokens
        marks = find_marks(text, self.reasoning.marks)
        if not self.reasoning.marks or (reasoning is None and (marks or not counted)):
            return Output(text, marks, prompt.start, completion.length)
        reasoning = reasoning or ""  # a server may keep it to itself, and count it
        opens, closes = self.reasoning.marks[:2]
        length = len(reasoning)
        # Reasoning without an answer has not ended, whatever the server says.
        marks = (Mark(0, 0, opens), *((Mark(length, length, closes, counted),) if text.strip() else ()))
        return Output(reasoning + text, marks, tokens=completion.length or None)

    @property
    def takes_tools(self) -> bool:
        """True if a server makes the prompt, or the template in the model's GGUF tells a model of functions."""
        return self._wording is None or self._wording.takes_tools

    def render(self, messages: Sequence[Message], begun: str = "", tools: Sequence[Tool] = ()) -> str:
        """Return the prompt's text, or the chat where the server makes the prompt.

        Raises:
            UserError: the template refuses the chat, or the server would have to go on with an answer.
        """
        if self._wording:
            return self._wording.render(messages, tools) + begun
        if begun:
            raise UserError(
                "model.examples=answer begins the model's own answer, which a chat sent to a server cannot do: set "
                "engine.prompt=text (or tokens), which makes the prompt here, or model.examples=turns."
            )
        listed = [f"[tools]\n{json.dumps(list(tools), ensure_ascii=False)}"] if tools else []
        return "\n\n".join([*listed, *(f"[{message['role']}]\n{message['content']}" for message in messages)])

    def encode_chat(
        self, messages: Sequence[Message], begun: str = "", tools: Sequence[Tool] = ()
    ) -> tuple[str, tuple[int, ...]]:
        """Return the prompt's text and token ids, none where the server makes the prompt.

        Raises:
            UserError: as `render`; or a message holds the name of a special token, and only the prompt's text is sent.
        """
        if self._wording is None:
            return self.render(messages, begun, tools), ()
        text, tokens = self._wording.encode_chat(messages, begun, tools)
        if self._config.prompt is PromptForm.text and tokens != self._wording.tokenize(text):
            raise UserError(
                "It holds the name of a special token of the model, which a server that is sent text takes for that "
                "token; set engine.prompt=tokens, which sends the tokens themselves, or leave the item out of the data."
            )
        return text, tokens

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Token ids; none where the server makes the prompt."""
        return self._wording.tokenize(text) if self._wording else ()

    @property
    def most(self) -> int:
        """Tokens that the server is asked to tell of at each place of a plain text."""
        return self._reader.most

    @cached_property
    def bos(self) -> tuple[int, ...]:
        """BOS, if the GGUF's vocabulary adds it to a text, or the server does.

        Raises:
            UserError: there is no tokenizer.
        """
        if self._wording:
            return self._wording.bos
        added, bare = (self._runner.run(self._reader.tokenize("1", special=each)) for each in (True, False))
        return added[: len(added) - len(bare)]

    def tokenize_plain(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, by the GGUF's tokenizer or the server's; BOS before it if that adds one.

        Raises:
            UserError: there is no tokenizer.
        """
        if self._wording:
            return self._wording.tokenize_plain(text)
        return self._runner.run(self._reader.tokenize(text))

    def text_of(self, tokens: Iterable[int]) -> str:
        """Return the tokens' text, as far as it is known."""
        return self._wording.text_of(tokens) if self._wording else self._reader.text_of(tokens)

    def likeliest(self, sequences: Sequence[TokenSequence]) -> list[Likeliest]:
        """Return the likeliest tokens at the scored places of each sequence.

        Raises:
            UserError: the server cannot tell.
        """
        read = partial(self._reader.read, most=self.most)
        with closing(ask_at_once(self._runner, self._config.concurrency, sequences, read)) as answers:
            told = {sequence: each for sequence, each, _ in answers}
        return [told[sequence] for sequence in sequences]

    @property
    def beginning(self) -> tuple[int, ...]:
        """The token that stands for a context of no words.

        Raises:
            UserError: none begins a text.
        """
        if not self.bos:
            raise UserError(
                f"{self._server.address} begins a text with no token of its own, so nothing stands before a "
                "continuation without a context: set engine=llama_cpp."
            )
        return self.bos

    def score(self, prompts: Iterable[Continuation]) -> Generator[tuple[Continuation, Completion], None, None]:
        """Yield each prompt with its continuation as the completion, each as it comes; close it to have no more.

        Raises:
            UserError: the server cannot, or gives no log-probabilities.
        """
        with closing(ask_at_once(self._runner, self._config.concurrency, prompts, self._reader.score)) as scored:
            for prompt, completion, seconds in scored:
                yield prompt, replace(completion, prompt_seconds=seconds)

    def score_key(self, prompt: Continuation) -> bytes:
        """sha256 of all that the continuation's log-probabilities depend on, as far as the server tells."""
        return hash_key(
            self._identity | {"tokens": prompt.tokens, "continuation": prompt.continuation, "says": "likeliest"}
        )

    def reading_facts(self, sequences: Iterable[TokenSequence]) -> Mapping[str, str]:
        """All that the predictions over these sequences depend on, as far as the server tells."""
        server = json.dumps([*self.identity.fixed, "" if self.file.bytes else self._server.address])
        return {"file": self.file.sha256, **self.settings, "server": server, "sequences": hash_sequences(sequences)}

    def complete(self, prompts: Iterable[Prompt], decoding: Decoding) -> Generator[PromptCompletion, None, None]:
        """Prompts with their completions, each as it comes; close it to have no more.

        Raises:
            UserError: the server cannot answer one, retries included; or it lacks a field that the decoding needs.
        """
        sampling_fields(self.identity.kind, decoding)  # refused before anything is asked
        answer = partial(self._answer, decoding=decoding)
        with closing(ask_at_once(self._runner, self._config.concurrency, prompts, answer)) as answers:
            for prompt, completion, seconds in answers:
                if (completion.reasoning or completion.reasoning_tokens) and not completion.text.strip():
                    self._warn_of_thoughts(prompt)
                yield prompt, replace(completion, generation_seconds=seconds)

    def key(self, prompt: Prompt, decoding: Decoding) -> bytes:
        """sha256 of what the prompt's completion depends on, as far as the server tells."""
        return hash_key(self._identity | {"asked": self._asked(prompt), "decoding": decisive(prompt, decoding)})

    @property
    def _identity(self) -> dict[str, Any]:
        return {
            "file": self.file.sha256,
            "settings": dict(self.settings),
            # Where the model's bytes are not known, another address may well be another model.
            "url": "" if self.file.bytes else self._server.address,
            "server": [*self.identity.fixed, self._fingerprint],
            "revision": REVISION,
        }

    def open_variant(self) -> None:
        """None: a server computes as it does."""
        return None

    def close(self) -> None:
        """Close the connections."""
        self._held.close()

    async def _answer(self, prompt: Prompt, decoding: Decoding) -> Completion:
        """One answer.

        Raises:
            UserError: there is none.
        """
        try:
            completion, fingerprint = await self._once(prompt, decoding, logprobs=self._logprobs)
        except TooLongError:
            return Completion((), (), "", "context", 0.0, 0.0, counted=(0, 0))
        except UngradableError as error:
            raise UserError(f"{prompt.item_id}: {error}") from error
        except NoAnswerError as error:
            raise UserError(
                f"{self._server.address} gave no answer to {prompt.item_id}, {self._config.retries} retries included "
                f"({error}); what it has answered is kept: see to the server, and run the same command again."
            ) from error
        if fingerprint:
            self._fingerprint = fingerprint
            self._fingerprints.setdefault(fingerprint)
        return completion

    async def _once(
        self, prompt: Prompt, decoding: Decoding, *, logprobs: bool, retries: int | None = None
    ) -> tuple[Completion, str | None]:
        place = "/chat/completions" if self._wording is None else "/completions"

        def read(body: object) -> tuple[Completion, str | None]:
            return read_answer(body, decoding.longest, logprobs=logprobs, has_tools=bool(prompt.tools))

        return await self._server.ask(place, self._request(prompt, decoding, logprobs), read, retries=retries)

    async def _tried(self) -> bool:
        """Ask two small questions, to see that the server answers, and whether it gives log-probabilities.

        Raises:
            UserError: it does not answer.
        """
        if self._wording:
            probe = Prompt("a first question", "1", self._wording.tokenize("1"), 0)
        else:
            probe = Prompt("a first question", "1", (), 0, messages=({"role": "user", "content": "1"},))
        await self._answer(probe, Decoding(1))
        try:
            completion, _ = await self._once(probe, Decoding(1), logprobs=True, retries=0)
            return bool(completion.logprobs)
        except NoAnswerError as error:
            if error.status in (429, 503):
                raise UserError(
                    f"{self._server.address} is too busy ({error}); wait, and run the same command again."
                ) from error
            return False
        except UserError:
            return False  # it has answered the same question without them

    def _warn_of_thoughts(self, prompt: Prompt) -> None:
        """Say, once, that an answer was cut before it began; it counts as cut at max_tokens."""
        if not self._warned:
            log.warning(
                "%s: the model was still reasoning at its longest and has not begun its answer to %s, which scores 0, "
                "like others of this kind; raise task.reasoning_tokens, or %s.",
                self._server.address,
                prompt.item_id,
                THINKING_OFF,
            )
        self._warned = True

    def _request(self, prompt: Prompt, decoding: Decoding, logprobs: bool) -> dict[str, Any]:
        chat = self._wording is None
        request: dict[str, Any] = {
            "model": self.identity.model,
            **self._asked(prompt),
            "max_tokens": decoding.longest,
            "temperature": decoding.temperature,
        }
        if decoding.temperature > 0:
            request |= {"top_p": decoding.top_p, "seed": derive_seed(prompt, decoding)}
        request |= sampling_fields(self.identity.kind, decoding)
        if decoding.stop:
            request["stop"] = list(decoding.stop)
        if logprobs:
            # At least one alternative: llama-server takes none for "no log-probabilities".
            request |= {"logprobs": True, "top_logprobs": 1} if chat else {"logprobs": 1}
        if "reasoning_effort" in self._arguments:  # the protocol's own field
            request["reasoning_effort"] = self._arguments["reasoning_effort"]
        if self._arguments.keys() - {"reasoning_effort"}:
            request["chat_template_kwargs"] = self._arguments
        return request | self._config.extra_body

    def _asked(self, prompt: Prompt) -> dict[str, Any]:
        """Return the prompt as it is sent."""
        if self._wording is None:
            given = {"tools": [dict(tool) for tool in prompt.tools]} if prompt.tools else {}
            return {"messages": [dict(message) for message in prompt.messages], **given}
        if self._config.prompt is PromptForm.tokens:
            return {"prompt": list(prompt.tokens)}
        return {"prompt": self._wording.remove_added_bos(prompt.text)}


def derive_seed(prompt: Prompt, decoding: Decoding) -> int:
    """Return the seed of the draws for this prompt and sample alone; positive, in 31 bits, which every server takes."""
    asked = prompt.tokens or [dict(message) for message in prompt.messages]
    parts = json.dumps([decoding.seed, prompt.sample, asked], sort_keys=True)
    return int.from_bytes(hashlib.sha256(parts.encode()).digest()[:8]) % 2**31


def _listed(names: Sequence[str]) -> str:
    """Return the names, as far as a tag has room for them."""
    more = len(names) - MOST_FINGERPRINTS
    return ", ".join([*names[:MOST_FINGERPRINTS], *([f"{more} more"] if more > 0 else [])])


def _choose_format(model: ModelConfig) -> ReasoningFormat:
    """Choose the format of reasoning that a server has left in an answer; what it splits off itself needs none."""
    form = get_format(model.reasoning)
    return THINK if form is None or form is HARMONY else form
