"""Errors between here and the Hugging Face Hub, in one sentence each."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from quantexp.util.errors import UserError
from quantexp.util.urls import strip_secrets

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError


@contextmanager
def hub_errors(repository: str, revision: str, way_out: str) -> Iterator[None]:
    """Turn an error of the Hub, or the lack of one, into a sentence.

    Args:
        repository: the owner/name that is read from.
        revision: the branch, tag or commit that was asked for.
        way_out: what to do without the Hub, as the end of a sentence ("or ...").

    Raises:
        UserError: the Hub cannot be reached, or does not give what was asked for.
    """
    check_endpoint()
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    no_answer = network_error()
    try:
        yield
    except (no_answer, LocalEntryNotFoundError, ConnectionError) as error:
        if _is_odd_token():  # first: the library's message would show it
            raise UserError(_ODD_TOKEN) from None
        causes = list(chain(error))
        if any(isinstance(each, OfflineModeIsEnabled) for each in causes):
            raise UserError(
                f"{repository} at revision {revision} is not on this machine, and HF_HUB_OFFLINE is set; unset it, "
                f"{way_out}."
            ) from error
        if answer := next((each for each in causes if isinstance(each, HfHubHTTPError)), None):
            raise UserError(_refused(answer, repository, revision, way_out)) from error
        broken = next((each for each in causes if isinstance(each, no_answer)), error)
        raise UserError(
            f"The Hub at {hub_address()} cannot be reached ({_said(broken)}), and {repository} is not, or not whole, "
            f"on this machine; run the same command again when there is a network, {way_out}."
        ) from error
    except (ValueError, ImportError, OSError) as error:
        if (sentence := _misfit(error, repository, way_out)) is None:
            raise
        raise UserError(sentence) from error


_ODD_TOKEN = (
    "The token for the Hub (HF_TOKEN, or what hf auth login has stored) holds characters that no token has; "
    "copy it anew from the Hub, or unset it."
)


def _is_odd_token() -> bool:
    from huggingface_hub import get_token

    token = get_token() or ""
    return not (token.isascii() and token.isprintable())


def check_endpoint() -> None:
    """Refuse what cannot be an address; the library would fail while it is imported.

    Raises:
        UserError: HF_ENDPOINT is no address.
    """
    given = os.environ.get("HF_ENDPOINT")
    if given is None:
        return
    try:
        address = urlsplit(given)
        is_address = address.scheme in {"http", "https"} and bool(address.hostname) and address.port != 0
    except ValueError:  # an impossible port, or brackets that do not close
        is_address = False
    if not is_address:
        shown = "What HF_ENDPOINT holds" if "@" in given else f"HF_ENDPOINT={given}"  # before @ is a password
        raise UserError(
            f"{shown} is not the address of a Hub; unset it, or set it to one such as https://huggingface.co."
        )


def _misfit(error: Exception, repository: str, way_out: str) -> str | None:
    """Return the sentence for an error that neither the Hub nor the network reports; None if it is none of these."""
    from huggingface_hub.errors import HFValidationError

    if isinstance(error, HFValidationError):
        return (
            f"{repository} cannot be a repository of the Hub; write it as OWNER/NAME, both of letters, digits, -, _ "
            "and ., which neither begin nor end them, nor follow on themselves, without .git, and of at most 96 "
            "characters."
        )
    if isinstance(error, JSONDecodeError):
        return (
            f"{hub_address()} does not answer like a Hub; a login page of the network may stand between: open any page "
            f"in a browser, check HF_ENDPOINT, and run the same command again, {way_out}."
        )
    if isinstance(error, UnicodeEncodeError) and _is_odd_token():
        return _ODD_TOKEN
    if isinstance(error, ImportError) and "socks" in str(error).lower():
        return (
            "A SOCKS proxy is set (ALL_PROXY, HTTPS_PROXY or HTTP_PROXY), which needs a further Python package; run: "
            "pip install socksio, or unset it."
        )
    if isinstance(error, OSError) and error.errno is None and "Consistency check failed" in str(error):
        return (
            f"A file of {repository} came with another number of bytes than was announced; run the same command "
            "again, and if that repeats, ask who stands between you and the Hub."
        )
    return None


def quiet_unless_terminal() -> None:
    """Progress bars of downloads on a terminal; elsewhere none, since a log file would fill with them.

    The libraries' lines on requests and retries go: `hub_errors` says in the end what they would.

    Raises:
        UserError: HF_ENDPOINT is no address.
    """
    check_endpoint()
    from huggingface_hub import utils

    for name in ("huggingface_hub", "datasets", "httpx", "httpx2", "fsspec"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if sys.stderr.isatty():
        return
    utils.disable_progress_bars()  # type: ignore[attr-defined] # documented, though not in its list of names
    if "datasets" in sys.modules:
        sys.modules["datasets"].disable_progress_bars()


def _refused(error: "HfHubHTTPError", repository: str, revision: str, way_out: str) -> str:
    """Return the sentence for an answer that is not the file."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    token = get_token()
    log_in = "make a token at the Hub and log in with: hf auth login (or set HF_TOKEN)"
    if isinstance(error, GatedRepoError):
        page = f"{hub_address()}/{repository}"
        if token is None:
            return f"{repository} is gated, and no token was sent: accept its licence at {page}, then {log_in}."
        return (
            f"{repository} is gated, and the account of your token has not been given access: accept its licence at "
            f"{page}, wait for the approval that some publishers ask for, and run the same command again."
        )
    if isinstance(error, RepositoryNotFoundError):
        cure = f"if it is private, {log_in}" if token is None else "if it is private, use a token that may read it"
        return f"The Hub has no repository {repository} that you may read; correct the name, or, {cure}."
    if isinstance(error, RevisionNotFoundError):
        return (
            f"{repository} has no revision {revision} (any more): its history may have been rewritten; set the "
            "revision to main, or to a commit that its page lists, and know that its files may differ from before."
        )
    if isinstance(error, EntryNotFoundError):
        return f"{repository} has no such file at revision {revision} ({error.request.url.path}); correct the name."
    status = error.response.status_code
    if status in {401, 403}:
        return f"The Hub refuses your token for {repository} (status {status}); {log_in}."
    if status == 429:
        wait = error.response.headers.get("Retry-After")
        pause = f"{wait} seconds" if wait else "some minutes"
        return (
            f"The Hub has had too many requests from here (status 429); wait {pause} and run the same command again, "
            "which goes on where it was."
        )
    return (
        f"The Hub could not serve {repository} (status {status}); run the same command again later, which goes on "
        f"where it was, {way_out}."
    )


def network_error() -> type[Exception]:
    """Return the base of all errors of the HTTP client, whose package has another name in other versions."""
    from huggingface_hub.errors import HfHubHTTPError

    base: type[Exception] = HfHubHTTPError.__bases__[0]
    return base


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and what it came from: both libraries wrap the one that says what happened, in several layers."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def hub_address() -> str:
    """Return the address of the Hub, without what may be secret in it."""
    from huggingface_hub import constants

    return strip_secrets(constants.ENDPOINT)


def _said(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return first_line(error)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text that has words, to be put into a sentence; its name if there is none."""
    lines = (line.strip() for line in str(error).splitlines() if any(map(str.isalnum, line)))
    return next(lines, type(error).__name__).rstrip(".")
