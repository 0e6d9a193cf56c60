"""One request for an e-mail to an OpenAI-compatible server."""

from dataclasses import dataclass
from typing import Any, Self

from quantexp.config.emails import GenerateConfig, Structured
from quantexp.tasks.emails.plan import EmailPlan
from quantexp.tasks.emails.prompt import messages, schema
from quantexp.util.openai_client import NEW_LIMIT, OLD_LIMIT, Access, NonsenseError, Server
from quantexp.util.openai_responses import CompletionBody, Usage, check_body
from quantexp.util.terminal import escape_surrogates
from quantexp.util.urls import strip_secrets

OPENAI = "https://api.openai.com/v1"
"""Where gpt-4o-mini is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of the server.

    Attributes:
        answer: its text; empty if there is none, as with a refusal.
        refusal: the words of a refusal.
        finish_reason: why the answer ended.
        answered_by: the model that answered, by its own name.
        system_fingerprint: of the server's configuration.
        response_id: the server's.
        input_tokens: read, as the server counts; None if it does not say.
        output_tokens: written, likewise.
    """

    answer: str
    refusal: str | None
    finish_reason: str | None
    answered_by: str | None
    system_fingerprint: str | None
    response_id: str | None
    input_tokens: int | None
    output_tokens: int | None


class Client:
    """Asks one server.

    Raises:
        UserError: there is no usable key, or the environment names a proxy that cannot be used.
    """

    def __init__(self, config: GenerateConfig) -> None:
        self._config = config
        self.server = hide_credentials(config)
        self._server = Server(
            Access(
                url=config.base_url or OPENAI,
                model=config.model.name,
                key_variable=config.api_key_variable,
                timeout=config.timeout,
                retries=config.retries,
                url_option="base_url",
                model_option="model.name",
                variable_option="api_key_variable",
                request_options="model.name, temperature, max_tokens and structured",
            )
        )
        if config.base_url is None:
            self._server.limit = NEW_LIMIT

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.client.close()

    async def connect(self) -> None:
        """See whether anything is there (`Server.connect`)."""
        await self._server.connect()

    async def ask(self, plan: EmailPlan, seed: int) -> Answer:
        """One answer for the plan.

        Raises:
            NoAnswerError: there was none, but the next request may have more luck.
            UserError: no request can succeed; the sentence says what to mend.
        """
        return await self._server.ask(
            "/chat/completions", self._request(plan, seed), lambda body: _answer(body, self.server)
        )

    def _request(self, plan: EmailPlan, seed: int) -> dict[str, Any]:
        named = {"name": "email", "schema": schema(), "strict": True}
        formats = {
            Structured.json_schema: {"type": "json_schema", "json_schema": named},
            Structured.json_object: {"type": "json_object", "schema": schema()},
        }
        request: dict[str, Any] = {
            "model": self._config.model.name,
            "messages": messages(plan),
            "response_format": formats[self._config.structured],
            "seed": seed,
            OLD_LIMIT: self._config.max_tokens,
        }
        if self._config.temperature is not None:
            request["temperature"] = self._config.temperature
        return request


def hide_credentials(config: GenerateConfig) -> str:
    """Return the server's address without what may be secret in it: user, password and query."""
    return strip_secrets(config.base_url or OPENAI)


def _answer(body: object, server: str) -> Answer:
    """Read the JSON of an answer.

    Raises:
        NonsenseError: it is not a chat completion.
    """
    try:
        got = check_body(CompletionBody, body)
        choice = got.choices[0]
        if choice.message is None:
            raise ValueError("a completion without a message")
    except ValueError as error:
        raise NonsenseError(f"{error}, so that base_url={server} may be wrong") from error
    usage = got.usage or Usage()
    return Answer(
        answer=choice.message.text or "",
        refusal=choice.message.refusal,
        finish_reason=choice.finish_reason,
        answered_by=_text(got.model),
        system_fingerprint=_text(got.system_fingerprint),
        response_id=_text(got.id),
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
    )


def _text(value: object) -> str | None:
    """Text that a file can hold; None for anything else."""
    return escape_surrogates(value) if isinstance(value, str) else None
