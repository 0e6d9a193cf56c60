"""Runs page by page: from a server several pages at once, as many runs a page as its memory bears."""

import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any

from mlflow.entities import Run as RunEntity
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request, verify_rest_response
from mlflow.utils.search_utils import SearchUtils

from quantexp.tracking.backend import Backend, Server
from quantexp.tracking.snapshots import run_of

RUNS = 500
"""A page. A run has some 140 parameters, metrics and tags; a server holds each as an object while it writes a page."""

AT_ONCE = 4
"""Pages that are asked for at once: a server's worker writes one at a time."""

ORDER = ["attributes.start_time ASC"]


def pages(backend: Backend, condition: str) -> Iterator[list[RunEntity]]:
    """Yield the runs that a condition in MLflow's language holds for, oldest first."""
    first, token = _page(backend, condition, None)
    yield first
    # A token says how many runs came before. Where it does not, each page has to wait for the one before it.
    if token and token == _token(RUNS) and isinstance(backend, Server):
        yield from _side_by_side(backend, condition)
        return
    while token:
        page, token = _page(backend, condition, token)
        yield page


def are(backend: Backend, condition: str, number: int) -> bool:
    """Return whether a condition holds for so many runs; they are not read."""
    last = backend.client.search_runs(
        [backend.experiment], condition, order_by=ORDER, max_results=2, page_token=_token(number - 1)
    )
    return len(last) == 1


def _side_by_side(backend: Backend, condition: str) -> Iterator[list[RunEntity]]:
    """All pages but the first, in order."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        starts = count(RUNS, RUNS)
        waiting: deque[Future[tuple[list[RunEntity], str | None]]] = deque()
        more = True
        while more or waiting:
            while more and len(waiting) < AT_ONCE:
                waiting.append(threads.submit(_page, backend, condition, _token(next(starts))))
            page, token = waiting.popleft().result()
            if not token:
                more = False
            yield page


def _token(start: int) -> str:
    return str(SearchUtils.create_page_token(start).decode())  # type: ignore[no-untyped-call]


def _page(backend: Backend, condition: str, token: str | None) -> tuple[list[RunEntity], str | None]:
    if not isinstance(backend, Server):
        found = backend.client.search_runs(
            [backend.experiment], condition, order_by=ORDER, max_results=RUNS, page_token=token
        )
        return list(found), found.token or None
    # As MLflow's client asks; but that one takes three times as long to read the answer as the server to write it.
    asked = {
        "experiment_ids": [backend.experiment],
        "filter": condition,
        "order_by": ORDER,
        "max_results": RUNS,
        **({"page_token": token} if token else {}),
    }
    endpoint = "/api/2.0/mlflow/runs/search"
    credentials = get_default_host_creds(backend.uri)  # type: ignore[no-untyped-call]
    response = http_request(credentials, endpoint, "POST", json=asked)  # type: ignore[no-untyped-call]
    answer = json.loads(verify_rest_response(response, endpoint).content)
    return [_run(each) for each in answer.get("runs", [])], answer.get("next_page_token") or None


def _run(found: dict[str, Any]) -> RunEntity:
    """Return a run as the rest of the program needs it."""
    info, data = found["info"], found.get("data", {})
    # A server leaves out what is empty.
    told = {"start_time": None, "artifact_uri": None, "run_name": None} | info
    told |= {kind: {each["key"]: each.get("value", "") for each in data.get(kind, [])} for kind in ("params", "tags")}
    told["metrics"] = {each["key"]: float(each["value"]) for each in data.get("metrics", [])}
    return run_of(told, info["status"])
