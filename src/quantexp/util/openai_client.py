"""Speaking to an OpenAI-compatible server, and all that can go wrong with it.

The openai library waits and asks again after time-outs, lost connections and the statuses 408, 409, 429 and 5xx, as
long as Retry-After says where it does, and with growing pauses otherwise.
"""

import asyncio
import os
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NoReturn, TypeVar

import openai

from quantexp.util.errors import UserError
from quantexp.util.http_client import HTTP, BoundedClient
from quantexp.util.openai_responses import Refusal, find_refusal, parse, read_refusal
from quantexp.util.redaction import hide_secrets
from quantexp.util.terminal import one_line
from quantexp.util.urls import strip_secrets, usable_address

CONNECTING_SECONDS = 10.0
"""For the first sign of life of a server."""

LONGEST_PAUSE = 8.0
"""Seconds before asking again after an answer that makes no sense; the openai library's own longest pause."""

OLD_LIMIT, NEW_LIMIT = "max_tokens", "max_completion_tokens"
"""Names of the field for the longest answer. OpenAI's newer models refuse the old one, and many servers do not know the
new one."""

Read = TypeVar("Read")


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


class RefusedError(UserError):
    """A request that a server does not accept, and would not the next time.

    Attributes:
        refusal: the server's.
    """

    def __init__(self, sentence: str, refusal: Refusal) -> None:
        super().__init__(sentence)
        self.refusal = refusal


class TooLongError(RefusedError):
    """A request whose prompt and answer do not fit the server's context."""


@dataclass(frozen=True, slots=True)
class Access:
    """Address of a server, and the configuration's names of its parts, for the sentences.

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
        limit: its name of the field for the longest answer.

    Raises:
        UserError: there is no usable key, or the environment names a proxy that cannot be used.
    """

    def __init__(self, access: Access) -> None:
        self._access, self.model, self.limit = access, access.model, OLD_LIMIT
        self.address = strip_secrets(access.url)
        self._key = read_key(access.key_variable, access.variable_option)
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
        # More for all than for connecting, so that it is known which of them was too long.
        patience = openai.Timeout(2 * CONNECTING_SECONDS, connect=CONNECTING_SECONDS)
        try:
            await self.client.with_options(max_retries=0, timeout=patience).get("/models", cast_to=HTTP.Response)
        except openai.APITimeoutError as error:
            if isinstance(error.__cause__, HTTP.ConnectTimeout):
                self._nothing_there(error, f"no sign of life within {CONNECTING_SECONDS:g} seconds")
            # Otherwise it is there, and busy.
        except openai.APIConnectionError as error:
            if not isinstance(error.__cause__, HTTP.DecodingError):
                self._nothing_there(error)
        except openai.APIStatusError:
            pass  # whatever it says: it is there, and need not have this address

    async def fetch(self, place: str, *, retries: int | None = None) -> object:
        """Fetch the JSON at an address below the server's own, or at a whole one.

        Raises:
            NoAnswerError: there is none.
            UserError: the server refuses.
        """
        most = self._access.retries if retries is None else retries
        return self._parse(await self._content("GET", place, None, most))

    async def ask(
        self, place: str, request: Mapping[str, Any], read: Callable[[object], Read], *, retries: int | None = None
    ) -> Read:
        """Ask for a completion.

        Args:
            place: of the protocol, such as /chat/completions.
            request: its body, in which the longest answer is OLD_LIMIT.
            read: makes of the answer's JSON what is wanted, or raises NonsenseError.
            retries: how often to ask again; None: as configured.

        Raises:
            NoAnswerError: there was no answer, but the next request may have more luck.
            UserError: no request can succeed; the sentence says what to mend.
            TooLongError: this one cannot, for its length.
        """
        most = self._access.retries if retries is None else retries
        for attempt in range(most):
            try:
                return await self._once(place, request, read, most)
            except NonsenseError:
                await asyncio.sleep(min(LONGEST_PAUSE, 0.5 * 2**attempt))
        return await self._once(place, request, read, most)

    async def _once(self, place: str, request: Mapping[str, Any], read: Callable[[object], Read], retries: int) -> Read:
        """Ask until the library has something; see `ask`."""
        limit = self.limit
        try:
            content = await self._content("POST", place, _with_limit(request, limit), retries)
        except RefusedError as error:
            if limit == NEW_LIMIT or NEW_LIMIT not in error.refusal.words:
                raise
            self.limit = NEW_LIMIT
            content = await self._content("POST", place, _with_limit(request, NEW_LIMIT), retries)
        return read(self._parse(content))

    async def _content(self, method: str, place: str, body: object, retries: int) -> bytes:
        """Fetch a body that is none of an error; see `ask`."""
        client = self.client.with_options(max_retries=retries)
        try:
            if method == "GET":
                response = await client.get(place, cast_to=HTTP.Response)
            else:
                response = await client.post(place, cast_to=HTTP.Response, body=body)
        except openai.APITimeoutError as error:
            raise NoAnswerError(f"no answer within {self._access.timeout:g} seconds") from error
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, HTTP.DecodingError):
                raise NoAnswerError(self._safe(str(error.__cause__))) from error
            self._nothing_there(error)
        except openai.APIStatusError as error:
            self._refused(read_refusal(error.status_code, error.response.content))
        if (refusal := find_refusal(response.content)) is not None:
            try:
                self._refused(refusal)
            except NoAnswerError as error:  # the library has taken it for an answer, and not asked again
                raise NonsenseError(str(error), error.status) from error
        return bytes(response.content)

    def _parse(self, content: bytes) -> object:
        try:
            return parse(content)
        except ValueError as error:
            wrong = f"so that {self._access.url_option}={self.address} may be wrong"
            raise NonsenseError(f"something that is not JSON, {wrong}") from error

    def _nothing_there(self, error: openai.APIConnectionError, why: str | None = None) -> NoReturn:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__cause__
        why = why or self._safe(str(cause)) or type(cause).__name__
        raise UserError(
            f"No connection to {self.address} ({why}); start the server, or check {self._access.url_option} and the "
            "network, and run the same command again."
        ) from error

    def _refused(self, refusal: Refusal) -> NoReturn:
        """Turn an error's status into a sentence, or into a request without an answer."""
        status, access = refusal.status, self._access
        said = f"{status}: {self._safe(refusal.words) or _phrase(status)}"
        key = f"the key in {access.key_variable}" if access.key_variable else "a request without a key"
        again = "run the same command again, which goes on from here"
        if refusal.is_without_money:
            raise UserError(f"The account of {key} has no credit left ({said}); add some, and {again}.")
        if refusal.is_too_long:
            raise TooLongError(
                f"{self.address} does not accept the request ({said}); check {access.request_options}.", refusal
            )
        # 200: an error that came as an answer and does not say which.
        if status in (200, 408, 409, 429) or (status >= 500 and status != HTTPStatus.NOT_IMPLEMENTED):
            raise NoAnswerError(said, status)
        if status == 401:
            mend = (
                f"put a valid key in {access.key_variable or f'a variable, named with {access.variable_option}=NAME'}"
            )
            raise UserError(f"{self.address} does not accept {key} ({said}); {mend}, and {again}.")
        if status == 403:
            raise RefusedError(f"{self.address} does not allow {key} to do this ({said}); use another key.", refusal)
        if status == 404:
            unknown = f"does not know the model {self.model}, or the address is wrong"
            raise RefusedError(
                f"{self.address} {unknown if self.model else 'has nothing at this address'} ({said}); check "
                f"{access.model_option} and {access.url_option}.",
                refusal,
            )
        raise RefusedError(
            f"{self.address} does not accept the request ({said}); check {access.request_options}.", refusal
        )

    def _safe(self, message: str) -> str:
        """Return a server's words on one line; one that repeats the key does not bring it to the terminal."""
        hidden = message.replace(self._key, "***") if self._key else message
        return one_line(hide_secrets(hidden)).rstrip(".")


def _with_limit(request: Mapping[str, Any], limit: str) -> dict[str, Any]:
    """Return the request with the longest answer under the server's name of it."""
    return {limit if name == OLD_LIMIT else name: value for name, value in request.items()}


def _phrase(status: int) -> str:
    """Return the standard's words for a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def _is_final(status: int, content: bytes) -> bool:
    """Return whether the library, which would ask again, should not."""
    refusal = read_refusal(status, content)
    return status == HTTPStatus.NOT_IMPLEMENTED or refusal.is_without_money or refusal.is_too_long


def read_key(variable: str | None, option: str) -> str | None:
    """Return the key, from the environment and nowhere else; None if the server needs none.

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
    """Return the client that carries the requests, with the proxies that the environment names."""
    for kind, address in urllib.request.getproxies().items():
        schemes = ("http", "https", "socks5", "socks5h")
        # Without its value, which may hold a password.
        whole = address if "://" in address else f"http://{address}"
        if kind in ("http", "https", "all") and not usable_address(whole, schemes):
            raise UserError(
                f"What the environment variable {kind.upper()}_PROXY holds is not a proxy's address; set it to one, "
                "such as http://127.0.0.1:8080, or unset it."
            )
    try:
        return BoundedClient(_is_final)
    except ImportError as error:
        if "socksio" not in str(error):
            raise
        raise UserError(
            "The environment names a SOCKS proxy (in ALL_PROXY, HTTPS_PROXY or HTTP_PROXY), for which the package "
            "socksio is missing; install it with pip install socksio, or unset the variable."
        ) from error
