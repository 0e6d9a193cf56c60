"""The HTTP client below the openai library, bounded in time and in memory.

A library's time-out holds for each piece of an answer, and none of its limits for the whole: a server that sends a byte
now and then, or never ends, would be listened to for ever.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import openai

LARGEST = 16 * 2**20
"""Bytes of an answer, unpacked. With log-probabilities, a token takes some 250."""

REDIRECTS = 5
"""Addresses in a row to which a server may send a request on."""

ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})
"""Packings whose largest growth is known, about a thousandfold: a piece of 64 kB that came becomes 66 MB at most."""

# The openai library brings httpx or httpx2, depending on its version.
HTTP: Any = sys.modules[openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0]]
"""The package of HTTP that the openai library uses."""


class BoundedClient(openai.DefaultAsyncHttpxClient):
    """A client that takes whole answers of at most LARGEST bytes, each within the time-out for reading.

    Args:
        is_final: of a status and a body: whether asking again cannot help, so that the library should not.
        options: of the library's client.
    """

    def __init__(self, is_final: Callable[[int, bytes], bool], **options: Any) -> None:
        super().__init__(headers={"Accept-Encoding": "identity"}, **options)
        self._is_final = is_final

    async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """Send a request, and read the whole answer.

        Args:
            request: the library's.
            stream: not used; the answer is always whole.
            options: of the library.

        Raises:
            httpx.ReadTimeout: the whole answer has not come in time.
            httpx.DecodingError: it is too large, or packed in an unknown way.
        """
        seconds = request.extensions.get("timeout", {}).get("read")
        options["follow_redirects"] = False
        try:
            async with asyncio.timeout(seconds):
                for _ in range(REDIRECTS + 1):
                    response = await super().send(request, stream=True, **options)
                    content = await _read(response)
                    if response.next_request is None:
                        return self._whole(response, content)
                    request = response.next_request
        except TimeoutError as error:
            raise HTTP.ReadTimeout(f"no whole answer within {seconds:g} seconds", request=request) from error
        raise HTTP.TooManyRedirects(f"more than {REDIRECTS} redirects in a row", request=request)

    def _whole(self, response: Any, content: bytes) -> Any:
        """Make a response that has been read."""
        changed = {b"content-encoding", b"content-length", b"transfer-encoding"}
        if final := response.status_code >= 400 and self._is_final(response.status_code, content):
            changed.add(b"x-should-retry")
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in changed]
        if final:
            headers.append((b"x-should-retry", b"false"))
        return HTTP.Response(response.status_code, headers=headers, content=content, request=response.request)


async def _read(response: Any) -> bytes:
    """Read a body that is not too large, nor packed in an unknown way."""
    content = bytearray()
    try:
        packed = response.headers.get("content-encoding", "").strip().lower()
        if packed not in ENCODINGS:
            raise HTTP.DecodingError(f"an answer packed as {packed[:40]}, which was not asked for")
        async for piece in response.aiter_bytes():
            content += piece
            if len(content) > LARGEST:
                raise HTTP.DecodingError(f"an answer of more than {LARGEST >> 20} MiB")
    finally:
        await response.aclose()
    return bytes(content)
