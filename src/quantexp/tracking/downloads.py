"""A file from a tracking server, as fast as the server hands it over."""

from functools import cached_property
from typing import Any

import requests
from mlflow.environment_variables import (
    MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR,
    MLFLOW_HTTP_REQUEST_BACKOFF_JITTER,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
)
from mlflow.exceptions import MlflowException
from mlflow.tracking.request_header.registry import resolve_request_headers
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.request_utils import _TRANSIENT_FAILURE_RESPONSE_CODES, _get_http_response_with_retries
from mlflow.utils.rest_utils import http_request
from requests.auth import HTTPBasicAuth


class Fetching:
    """Fetches from one server.

    MLflow prepares each request anew, which takes it several milliseconds. Here that is done once, where the server is
    asked with a password, a token or nothing; where it is asked in any other way, MLflow asks.
    """

    def __init__(self, uri: str) -> None:
        self._credentials = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
        self._retries = (
            *(_set(MLFLOW_HTTP_REQUEST_MAX_RETRIES), _set(MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR)),
            *(_set(MLFLOW_HTTP_REQUEST_BACKOFF_JITTER), _TRANSIENT_FAILURE_RESPONSE_CODES),
        )

    def content(self, address: str) -> bytes | None:
        """Fetch what is at an address; None if nothing is.

        Raises:
            requests.HTTPError: the server refused.
            MlflowException: it does not answer.
        """
        if self._options is None:
            answer = http_request(self._credentials, address, "GET")  # type: ignore[no-untyped-call]
        else:
            try:
                whole = self._credentials.host.rstrip("/") + address
                answer = _get_http_response_with_retries(  # type: ignore[no-untyped-call]
                    "GET", whole, *self._retries, **self._options
                )
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.RetryError) as error:
                raise MlflowException(f"API request to {address} failed with exception {error}") from error
        if answer.status_code == requests.codes.not_found:
            return None
        answer.raise_for_status()
        return bytes(answer.content)

    @cached_property
    def _options(self) -> dict[str, Any] | None:
        """Options of each request; None where MLflow has to make it."""
        of = self._credentials
        if of.auth or of.aws_sigv4 or of.client_secret or of.client_cert_path or of.use_databricks_sdk:
            return None
        headers, auth = dict(resolve_request_headers()), None  # type: ignore[no-untyped-call]
        if of.username and of.password:
            auth = HTTPBasicAuth(of.username.encode(), of.password.encode())
        elif of.token:
            headers["Authorization"] = f"Bearer {of.token}"
        return {"headers": headers, "auth": auth, "verify": of.verify, "timeout": _set(MLFLOW_HTTP_REQUEST_TIMEOUT)}


def _set(variable: Any) -> Any:
    """Return the value of one of MLflow's environment variables."""
    return variable.get()
