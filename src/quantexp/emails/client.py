"""One request to an OpenAI-compatible server, and all that can go wrong with it.

The openai library waits and asks again after time-outs, lost connections and the statuses 408, 409, 429 and 5xx, as
long as Retry-After says where it does, and with growing pauses otherwise.
"""

import os
import ssl
import urllib.request
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, Self, cast
from urllib.parse import urlsplit, urlunsplit

import openai
from openai.types.chat import ChatCompletion

from quantexp.emails.config import GenerateConfig, Structured, usable_address
from quantexp.emails.plan import EmailPlan
from quantexp.emails.prompt import messages, schema
from quantexp.emails.terminal import storable
from quantexp.errors import UserError
from quantexp.terminal import one_line

OPENAI = "https://api.openai.com/v1"
"""Where gpt-4o-mini is."""

NO_MONEY = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
"""Error codes that waiting does not mend, though they come with status 429, which the library would try again."""

CONNECTING_SECONDS = 10.0
"""For the first sign of life of a server."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        text: the answer; empty if there is none, as with a refusal.
        refusal: the words of a refusal.
        finish_reason: why the answer ended.
        model: the model that answered, by its own name.
        system_fingerprint: of the server's configuration.
        response_id: the server's.
        input_tokens: read, as the server counts; None if it does not say.
        output_tokens: written, likewise.
    """

    text: str
    refusal: str | None
    finish_reason: str | None
    model: str | None
    system_fingerprint: str | None
    response_id: str | None
    input_tokens: int | None
    output_tokens: int | None


class NoAnswerError(Exception):
    """A request that got no answer, retries included; the message says why, without a full stop."""


class Client:
    """Asks one server.

    Raises:
        UserError: there is no usable key, or the environment names a proxy that cannot be used.
    """

    def __init__(self, config: GenerateConfig) -> None:
        self._config = config
        self.server = server_of(config)
        self._key = key_of(config)
        self._openai = openai.AsyncOpenAI(
            # The library wants a key even where the server does not.
            api_key=self._key or "none",
            base_url=config.base_url or OPENAI,
            timeout=config.timeout,
            max_retries=config.retries,
            http_client=_http_client(),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._openai.close()

    async def connect(self) -> None:
        """See whether anything is there, so that a wrong address is told at once and not after all the retries.

        Raises:
            UserError: nothing is.
        """
        try:
            await self._openai.with_options(max_retries=0, timeout=CONNECTING_SECONDS).get("/models", cast_to=object)
        except openai.APITimeoutError as error:
            # By name: whether the library's own client is httpx or httpx2 depends on its version.
            if type(error.__cause__).__name__ == "ConnectTimeout":
                self._nothing_there(error, f"no sign of life within {CONNECTING_SECONDS:g} seconds")
            # Otherwise it is there, and busy.
        except openai.APIConnectionError as error:
            self._nothing_there(error)
        except (openai.OpenAIError, ValueError):
            pass  # whatever it says: it is there, and need not have this address

    async def ask(self, plan: EmailPlan, seed: int) -> Answer:
        """One answer for the plan.

        Raises:
            NoAnswerError: there was none, but the next request may have more luck.
            UserError: no request can succeed; the sentence says what to mend.
        """
        try:
            completion: object = await self._openai.chat.completions.create(**self._request(plan, seed))
        except openai.APITimeoutError as error:
            raise NoAnswerError(f"no answer within {self._config.timeout:g} seconds") from error
        except openai.APIConnectionError as error:
            self._nothing_there(error)
        except openai.APIStatusError as error:
            self._refused(error)
        except ValueError as error:  # from the library's JSON parser
            raise NoAnswerError(f"something that is not JSON, so that base_url={self.server} may be wrong") from error
        return _answer(completion, self.server)

    def _request(self, plan: EmailPlan, seed: int) -> dict[str, Any]:
        named = {"name": "email", "schema": schema(), "strict": True}
        formats = {
            Structured.json_schema: {"type": "json_schema", "json_schema": named},
            Structured.json_object: {"type": "json_object", "schema": schema()},
        }
        # OpenAI's newer models refuse the old name, and many other servers do not know the new one.
        longest = "max_completion_tokens" if self._config.base_url is None else "max_tokens"
        request: dict[str, Any] = {
            "model": self._config.model.name,
            "messages": messages(plan),
            "response_format": formats[self._config.structured],
            "seed": seed,
            longest: self._config.max_tokens,
        }
        if self._config.temperature is not None:
            request["temperature"] = self._config.temperature
        return request

    def _nothing_there(self, error: openai.APIConnectionError, why: str | None = None) -> NoReturn:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__cause__
        why = why or self._safe(str(cause)) or type(cause).__name__
        raise UserError(
            f"No connection to {self.server} ({why}); start the server, or check base_url and the network, and run the "
            "same command again."
        ) from error

    def _refused(self, error: openai.APIStatusError) -> NoReturn:
        """Turn an error's status into a sentence, or into a request without an answer."""
        status, config = error.status_code, self._config
        said = f"{status}: {self._said(error)}"
        key = f"the key in {config.api_key_variable}" if config.api_key_variable else "a request without a key"
        again = "run the same command again, which goes on from here"
        if error.code in NO_MONEY or error.type in NO_MONEY:
            raise UserError(f"The account of {key} has no credit left ({said}); add some, and {again}.") from error
        if status in (408, 409, 429) or status >= 500:
            raise NoAnswerError(said) from error
        if status == 401:
            mend = f"put a valid key in {config.api_key_variable or 'a variable, named with api_key_variable=NAME'}"
            raise UserError(f"{self.server} does not accept {key} ({said}); {mend}, and {again}.") from error
        if status == 403:
            raise UserError(f"{self.server} does not allow {key} to do this ({said}); use another key.") from error
        if status == 404:
            raise UserError(
                f"{self.server} does not know the model {config.model.name}, or the address is wrong ({said}); check "
                "model.name and base_url."
            ) from error
        raise UserError(
            f"{self.server} does not accept the request ({said}); check model.name, temperature, max_tokens and "
            "structured."
        ) from error

    def _said(self, error: openai.APIStatusError) -> str:
        body = error.body
        message = body.get("message") if isinstance(body, dict) else None
        return self._safe(message if isinstance(message, str) else error.response.reason_phrase)

    def _safe(self, message: str) -> str:
        """A server's words on one line; one that repeats the key does not bring it to the terminal."""
        hidden = message.replace(self._key, "***") if self._key else message
        return one_line(hidden).rstrip(".")


def server_of(config: GenerateConfig) -> str:
    """The server's address without what may be secret in it: user, password and query."""
    parts = urlsplit(config.base_url or OPENAI)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def key_of(config: GenerateConfig) -> str | None:
    """The key, from the environment and nowhere else; None if the server needs none.

    Raises:
        UserError: the variable is empty, or holds what cannot be a key.
    """
    name = config.api_key_variable
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise UserError(
            f"The environment variable {name} holds no key; set it, name another with api_key_variable=NAME, or, for a "
            "server that needs none, set api_key_variable=null."
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"What the environment variable {name} holds cannot be a key; copy the key again.")
    return key


def _http_client() -> Any:
    """What carries the requests, with the proxies that the environment names.

    Raises:
        UserError: one of them cannot be used.
    """
    for kind, address in urllib.request.getproxies().items():
        schemes = ("http", "https", "socks5", "socks5h")
        # Without its value, which may hold a password.
        if kind in ("http", "https", "all") and not usable_address(_with_scheme(address), schemes):
            raise UserError(
                f"What the environment variable {kind.upper()}_PROXY holds is not a proxy's address; set it to one, "
                "such as http://127.0.0.1:8080, or unset it."
            )
    try:
        return openai.DefaultAsyncHttpxClient(event_hooks={"response": [_do_not_wait_for_money]})
    except ImportError as error:
        if "socksio" not in str(error):
            raise
        raise UserError(
            "The environment names a SOCKS proxy (in ALL_PROXY, HTTPS_PROXY or HTTP_PROXY), for which the package "
            "socksio is missing; install it with pip install socksio, or unset the variable."
        ) from error


def _with_scheme(address: str) -> str:
    return address if "://" in address else f"http://{address}"


async def _do_not_wait_for_money(response: Any) -> None:
    """Tell the library not to try again what has failed for want of credit; see NO_MONEY."""
    if response.status_code != 429:
        return
    await response.aread()
    try:
        error = response.json()["error"]
        without_money = not NO_MONEY.isdisjoint({error.get("code"), error.get("type")})
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # not OpenAI's form; then it is an ordinary 429
    if without_money:
        response.headers["x-should-retry"] = "false"


def _answer(completion: object, server: str) -> Answer:
    """What matters of the library's object, which it has not checked against its types.

    Raises:
        NoAnswerError: it is not a chat completion.
    """
    choices = cast(Any, completion).choices if isinstance(completion, ChatCompletion) else None
    if not choices or choices[0].message is None:
        raise NoAnswerError(f"something that is not a chat completion, so that base_url={server} may be wrong")
    got, choice = cast(Any, completion), choices[0]
    return Answer(
        text=_text(choice.message.content) or "",
        refusal=_text(choice.message.refusal),
        finish_reason=_text(choice.finish_reason),
        model=_text(got.model),
        system_fingerprint=_text(got.system_fingerprint),
        response_id=_text(got.id),
        input_tokens=_count(getattr(got.usage, "prompt_tokens", None)),
        output_tokens=_count(getattr(got.usage, "completion_tokens", None)),
    )


def _text(value: object) -> str | None:
    """Text that a file can hold; None for anything else."""
    return storable(value) if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None
