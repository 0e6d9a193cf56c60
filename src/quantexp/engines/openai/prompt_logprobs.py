"""Log-probabilities of a prompt's likeliest tokens, as vLLM's completions give them (`prompt_logprobs`)."""

from collections.abc import Iterable
from itertools import islice
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from quantexp.config import EngineConfig
from quantexp.engines.base import Continuation
from quantexp.engines.sequences import Likeliest, TokenSequence
from quantexp.store.completion import Completion
from quantexp.util.errors import UserError
from quantexp.util.openai_client import NoAnswerError, NonsenseError, RefusedError, Server, TooLongError
from quantexp.util.openai_responses import MOST_TOKENS, Checked, Count, Logprob, check_body

NONE_GIVEN = (
    "{address} gives no log-probabilities of a prompt's tokens (prompt_logprobs), of which divergence and scores of "
    "choices are made: serve "
    "the model with vLLM or a server that knows this field of it, or set engine=llama_cpp."
)


class _Entry(Checked):
    logprob: Logprob
    decoded_token: str | None = None


class _Choice(Checked):
    prompt_logprobs: Annotated[list[dict[str, _Entry] | None], Field(max_length=MOST_TOKENS)] | None = None


class _Body(Checked):
    choices: Annotated[list[_Choice], Field(min_length=1)]


class _Tokens(Checked):
    tokens: Annotated[list[Count], Field(max_length=MOST_TOKENS * 100)]


class PromptReader:
    """Reads prompts of given tokens on a server.

    Attributes:
        most: tokens that are asked for at each place.
    """

    def __init__(self, server: Server, model: str, config: EngineConfig) -> None:
        self._server, self._model, self._config = server, model, config
        self.most = config.prompt_logprobs
        self._pieces: dict[int, str] = {}
        self._root = str(config.url).rstrip("/").removesuffix("/v1")

    def text_of(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens that the server has told of; of others nothing is known, and nothing written."""
        return "".join(self._pieces.get(token, "") for token in tokens)

    async def tokenize(self, text: str, *, special: bool = True) -> tuple[int, ...]:
        """Take a text apart on the server, BOS before it if it adds one.

        Raises:
            UserError: the server does not do that, or not with so long a text.
        """
        request = {"model": self._model, "prompt": text, "add_special_tokens": special}
        try:
            return await self._server.ask(f"{self._root}/tokenize", request, _read_tokens)
        except (NoAnswerError, RefusedError) as error:
            raise UserError(
                f"{self._server.address} does not take the text apart into tokens ({error}): give the tokenizer here, "
                "by model=local model.path=GGUF engine.prompt=tokens."
            ) from error

    async def score(self, prompt: Continuation) -> Completion:
        """Return the prompt's continuation as its completion.

        Raises:
            UserError: the server cannot, or gives no log-probabilities.
        """
        sequence = TokenSequence((*prompt.tokens, *prompt.continuation), len(prompt.tokens))
        try:
            found = await self.read(sequence, most=1)
        except TooLongError:
            return Completion((), (), "", "context", 0.0, 0.0)
        return Completion(
            tokens=prompt.continuation,
            logprobs=tuple(found.logprobs.astype(np.float32).tolist()),
            text=prompt.written,
            finish_reason="stop",
            prompt_seconds=0.0,
            generation_seconds=0.0,
            likeliest=bool((found.ids[:, 0] == found.tokens).all()),
        )

    async def read(self, sequence: TokenSequence, most: int) -> Likeliest:
        """Read a sequence.

        Args:
            sequence: what is read.
            most: tokens that are asked for at each place.

        Raises:
            UserError: the server cannot, or gives no log-probabilities.
        """
        request: dict[str, Any] = {
            "model": self._model,
            "prompt": list(sequence.tokens),
            "max_tokens": 1,
            "temperature": 0.0,
            "prompt_logprobs": most,
            **self._config.extra_body,
        }
        address = self._server.address
        try:
            return await self._server.ask("/completions", request, lambda body: self._parse(body, sequence, most))
        except NonsenseError as error:
            raise UserError(f"{address} gave {error} for the log-probabilities of a prompt's tokens.") from error
        except NoAnswerError as error:
            raise UserError(
                f"{address} gave no answer, {self._config.retries} retries included ({error}): see to the server, and "
                "run the same command again."
            ) from error
        except RefusedError as error:
            if "logprobs" not in error.refusal.words:
                raise
            raise UserError(
                f"{address} does not give engine.prompt_logprobs={self.most} ({error.refusal.words}): lower it, or "
                f"start vLLM with --max-logprobs {self.most}."
            ) from error

    def _parse(self, body: object, sequence: TokenSequence, most: int) -> Likeliest:
        """Read the JSON of an answer.

        Raises:
            NonsenseError: it is not what was asked for.
            UserError: there are no log-probabilities in it.
        """
        try:
            given = check_body(_Body, body).choices[0].prompt_logprobs
        except ValueError as error:
            raise NonsenseError(str(error)) from error
        if given is None:
            raise UserError(NONE_GIVEN.format(address=self._server.address))
        if len(given) != len(sequence.tokens):
            raise NonsenseError(f"{len(given)} places for a prompt of {len(sequence.tokens)} tokens")
        count = sequence.scored
        ids = np.full((count, most + 1), -1, np.int32)
        of_ids = np.full(ids.shape, -np.inf)
        logprobs = np.empty(count)
        for place, entries in enumerate(given):
            for token, entry in (entries or {}).items():
                if entry.decoded_token is not None and token.isdecimal():
                    self._pieces.setdefault(int(token), entry.decoded_token)
            if place < sequence.first:
                continue
            own = str(sequence.tokens[place])
            if not entries or own not in entries or not all(map(str.isdecimal, entries)):
                raise NonsenseError(f"no log-probability of the token at place {place}")
            row = place - sequence.first
            logprobs[row] = min(entries[own].logprob, 0.0)
            ranked = sorted(entries.items(), key=lambda each: -each[1].logprob)
            for column, (token, entry) in enumerate(islice(ranked, most + 1)):
                ids[row, column], of_ids[row, column] = int(token), min(entry.logprob, 0.0)
        actual = np.array(sequence.tokens[sequence.first :], np.int32)
        return Likeliest(actual, logprobs, ids, of_ids)


def _read_tokens(body: object) -> tuple[int, ...]:
    try:
        return tuple(check_body(_Tokens, body).tokens)
    except ValueError as error:
        raise NonsenseError(str(error)) from error
