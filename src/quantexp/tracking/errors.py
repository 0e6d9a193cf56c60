"""Errors of a tracking server, or of the storage behind it, and their meaning."""

import re
import sys

import requests
from mlflow.exceptions import MlflowException

from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

_STORAGE = {
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "boto3.exceptions": ("Boto3Error",),
    "google.api_core.exceptions": ("GoogleAPIError",),
    "azure.core.exceptions": ("AzureError",),
}
"""What the libraries raise through which MLflow writes into object storage where the server is no proxy for it."""

MAY_PASS = frozenset({408, 429})
"""Answers below 500 that mean: later."""

REFUSED = frozenset({401, 403})
"""Answers that mean: not you, or not with these credentials."""


class ServerAwayError(UserError):
    """The tracking server did not answer, or not as it should, while something was read that is needed.

    Attributes:
        reason: What it did, as `explain_absence` has it.
    """

    def __init__(self, shown: str, reason: str) -> None:
        self.reason = reason
        if reason.startswith("refuses"):
            todo = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        else:
            todo = "start it, correct tracking.uri, or record here with tracking=local"
        super().__init__(f"The tracking server {shown} {reason}; {todo}.")


def failures() -> tuple[type[Exception], ...]:
    """Return the exceptions of MLflow, the network and loaded storage libraries; `ServerAwayError`, too."""
    loaded = {module: names for module, names in _STORAGE.items() if module in sys.modules}
    storage = [getattr(sys.modules[module], name) for module, names in loaded.items() for name in names]
    return (ServerAwayError, MlflowException, requests.RequestException, *storage)


def explain_absence(error: Exception) -> str | None:
    """Why the server did not take something that it would take at another time; None for every other error.

    The reason goes on after the server's name: "does not answer (Connection refused)".
    """
    if isinstance(error, ServerAwayError):
        return error.reason
    if isinstance(error, MlflowException | requests.RequestException):
        status = _status(error)
        if status in REFUSED:
            return f"refuses the credentials ({status})"
        if status is None or status >= 500 or status in MAY_PASS:
            return _reason(str(error))
        return None
    return f"cannot be written to ({one_line(str(error))})" if isinstance(error, failures()) else None


def _status(error: MlflowException | requests.RequestException) -> int | None:
    """Return the HTTP status that an answer had; None where none came."""
    if isinstance(error, requests.RequestException):
        return None if error.response is None else error.response.status_code
    if found := re.search(r"failed with error code (\d{3})", str(error)):
        return int(found[1])
    return int(error.get_http_status_code())  # type: ignore[no-untyped-call]


def _reason(message: str) -> str:
    if found := re.search(r"too many (\d{3}) error responses", message):
        return f"answers with errors ({found[1]})"
    if "timed out" in message or "timeout" in message:
        return "does not answer in time"
    if found := re.search(r"\[Errno -?\d+\] ([A-Z][^'\")\]]+)", message):
        return f"does not answer ({found[1]})"
    return f"fails ({one_line(message)})"
