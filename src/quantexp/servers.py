"""Speaking to an OpenAI-compatible server, and all that can go wrong with it.

The openai library waits and asks again after time-outs, lost connections and the statuses 408, 409, 429 and 5xx, as
long as Retry-After says where it does, and with growing pauses otherwise.
"""

import os
import ssl
import urllib.request
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import openai

from quantexp.address import usable_address, without_secrets
from quantexp.errors import UserError
from quantexp.terminal import one_line

NO_MONEY = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
"""Error codes that waiting does not mend, though they come with status 429, which the library would try again."""

CONNECTING_SECONDS = 10.0
"""For the first sign of life of a server."""

Got = TypeVar("Got")


TOO_LONG = frozenset({"context_length_exceeded", "exceed_context_size_error"})
"""Error codes, or types, of servers that refuse a prompt for its length."""

TOO_LONG_WORDS = ("maximum context length", "exceeds the available context", "context window")
"""What those say that have no code for it."""


class NoAnswerError(Exception):
    """A request that got no answer, retries included; the message says why, without a full stop.

    Attributes:
        status: of HTTP; None for a request that was not answered at all.
    """

    def __init__(self, why: str, status: int | None = None) -> None:
        super().__init__(why)
        self.status = status


class NonsenseError(NoAnswerError):
    """An answer that is not one; the library has not asked again."""


class TooLongError(UserError):
    """A request whose prompt and answer do not fit the server's context."""


@dataclass(frozen=True, slots=True)
class Access:
    """How a server is reached, and what the configuration calls each part, for the sentences.

    Attributes:
        url: its base URL.
        model: the model's name there; empty as long as it is not known.
        key_variable: the environment variable that holds the key; None: the server needs none.
        timeout: seconds for a request.
        retries: how often a request is sent again.
        url_option: the key of the configuration that holds `url`; those that follow, likewise.
        model_option: of `model`.
        variable_option: of `key_variable`.
        request_options: those that decide what is in a request, in words.
    """

    url: str
    model: str
    key_variable: str | None
    timeout: float
    retries: int
    url_option: str
    model_option: str
    variable_option: str
    request_options: str


class Server:
    """One server.

    Attributes:
        address: where it is, without what may be secret.
        client: the library's.
        model: its name of the model, for the sentences.

    Raises:
        UserError: there is no usable key, or the environment names a proxy that cannot be used.
    """

    def __init__(self, access: Access) -> None:
        self._access, self.model = access, access.model
        self.address = without_secrets(access.url)
        self._key = key_in(access.key_variable, access.variable_option)
        self.client = openai.AsyncOpenAI(
            # The library wants a key even where the server does not.
            api_key=self._key or "none",
            base_url=access.url,
            timeout=access.timeout,
            max_retries=access.retries,
            http_client=_http_client(),
        )

    async def connect(self) -> None:
        """See whether anything is there, so that a wrong address is told at once and not after all the retries.

        Raises:
            UserError: nothing is.
        """
        try:
            await self.client.with_options(max_retries=0, timeout=CONNECTING_SECONDS).get("/models", cast_to=object)
        except openai.APITimeoutError as error:
            # By name: whether the library's own client is httpx or httpx2 depends on its version.
            if type(error.__cause__).__name__ == "ConnectTimeout":
                self._nothing_there(error, f"no sign of life within {CONNECTING_SECONDS:g} seconds")
            # Otherwise it is there, and busy.
        except openai.APIConnectionError as error:
            self._nothing_there(error)
        except (openai.OpenAIError, ValueError):
            pass  # whatever it says: it is there, and need not have this address

    async def answer(self, request: Awaitable[Got]) -> Got:
        """What the library gives for a request.

        Raises:
            NoAnswerError: there was no answer, but the next request may have more luck.
            UserError: no request can succeed; the sentence says what to mend.
            TooLongError: this one cannot, for its length.
        """
        try:
            return await request
        except openai.APITimeoutError as error:
            raise NoAnswerError(f"no answer within {self._access.timeout:g} seconds") from error
        except openai.APIConnectionError as error:
            self._nothing_there(error)
        except openai.APIStatusError as error:
            self._refused(error)
        except ValueError as error:  # from the library's JSON parser
            wrong = f"so that {self._access.url_option}={self.address} may be wrong"
            raise NonsenseError(f"something that is not JSON, {wrong}") from error

    def said(self, error: openai.APIStatusError) -> str:
        """What the server gives as the reason of an error."""
        body = error.body
        message = body.get("message") if isinstance(body, dict) else None
        return self._safe(message if isinstance(message, str) else error.response.reason_phrase)

    def _nothing_there(self, error: openai.APIConnectionError, why: str | None = None) -> NoReturn:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__cause__
        why = why or self._safe(str(cause)) or type(cause).__name__
        raise UserError(
            f"No connection to {self.address} ({why}); start the server, or check {self._access.url_option} and the "
            "network, and run the same command again."
        ) from error

    def _refused(self, error: openai.APIStatusError) -> NoReturn:
        """Turn an error's status into a sentence, or into a request without an answer."""
        status, access = error.status_code, self._access
        said = f"{status}: {self.said(error)}"
        key = f"the key in {access.key_variable}" if access.key_variable else "a request without a key"
        again = "run the same command again, which goes on from here"
        if error.code in NO_MONEY or error.type in NO_MONEY:
            raise UserError(f"The account of {key} has no credit left ({said}); add some, and {again}.") from error
        if status in (408, 409, 429) or status >= 500:
            raise NoAnswerError(said, status) from error
        if status == 401:
            mend = (
                f"put a valid key in {access.key_variable or f'a variable, named with {access.variable_option}=NAME'}"
            )
            raise UserError(f"{self.address} does not accept {key} ({said}); {mend}, and {again}.") from error
        if status == 403:
            raise UserError(f"{self.address} does not allow {key} to do this ({said}); use another key.") from error
        if status == 404:
            unknown = f"does not know the model {self.model}, or the address is wrong"
            raise UserError(
                f"{self.address} {unknown if self.model else 'has nothing at this address'} ({said}); check "
                f"{access.model_option} and {access.url_option}."
            ) from error
        kind = TooLongError if _too_long(error) else UserError
        raise kind(f"{self.address} does not accept the request ({said}); check {access.request_options}.") from error

    def _safe(self, message: str) -> str:
        """A server's words on one line; one that repeats the key does not bring it to the terminal."""
        hidden = message.replace(self._key, "***") if self._key else message
        return one_line(hidden).rstrip(".")


def _too_long(error: openai.APIStatusError) -> bool:
    words = str(error.message).lower()
    return not TOO_LONG.isdisjoint({error.code, error.type}) or any(each in words for each in TOO_LONG_WORDS)


def key_in(variable: str | None, option: str) -> str | None:
    """The key, from the environment and nowhere else; None if the server needs none.

    Args:
        variable: the environment variable.
        option: the key of the configuration that names it.

    Raises:
        UserError: the variable is empty, or holds what cannot be a key.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(
            f"The environment variable {variable} holds no key; set it, name another with {option}=NAME, or, for a "
            f"server that needs none, set {option}=null."
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"What the environment variable {variable} holds cannot be a key; copy the key again.")
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
