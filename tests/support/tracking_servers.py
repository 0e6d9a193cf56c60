"""A real MLflow server that can be killed and started again, and what stands before it in a network."""

import base64
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import mlflow
import requests
import tracking_server
from mlflow.entities import Run


class TrackingServer(tracking_server.TrackingServer):
    """The server, and what is on it."""

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.url)

    def runs(self, kind: str, experiment: str = "quantexp") -> list[Run]:
        """The runs of a kind, oldest first."""
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            return []
        runs = self.client.search_runs([found.experiment_id], f"tags.`quantexp.kind` = '{kind}'")
        return sorted(runs, key=lambda run: run.info.start_time)


class Proxy:
    """Stands between quantexp and a server: asks for a password, or cuts the line once the server has acted.

    `largest` says how many bytes of a file it takes for a path; None is any number. `port` is where it stands; 0 is
    any. Once it is closed, nothing answers there.
    """

    def __init__(
        self,
        upstream: str,
        user: str | None = None,
        password: str | None = None,
        largest: Callable[[str], int | None] = lambda _: None,
        port: int = 0,
    ) -> None:
        self.cut: list[str] = []
        """Ends of paths; the answer to the next request for one is lost, and it is taken from the list."""
        self.lost = 0
        self._closed = False
        proxy = self
        wanted = None
        if user is not None:
            wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # or each body would wait 40 ms for the client to confirm its head

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing on the terminal."""

            def forward(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                if proxy._closed:  # a connection from before
                    self.close_connection = True
                    self.connection.close()
                    return
                if wanted is not None and self.headers.get("Authorization") != wanted:
                    self._answer(401, b"You are not authenticated.", "text/plain")
                    return
                most = largest(self.path) if self.command == "PUT" else None
                if most is not None and length > most:
                    self._answer(413, b"Request Entity Too Large", "text/plain")
                    return
                kept = {key: value for key, value in self.headers.items() if key.lower() not in {"host", "connection"}}
                answer = requests.request(self.command, upstream + self.path, headers=kept, data=body, timeout=60)
                path = self.path.partition("?")[0]
                for end in proxy.cut:
                    if path.endswith(end):
                        proxy.cut.remove(end)
                        proxy.lost += 1
                        self.close_connection = True
                        self.connection.close()
                        return
                self._answer(answer.status_code, answer.content, answer.headers.get("Content-Type", "text/plain"))

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            setattr(Handler, f"do_{verb}", Handler.forward)

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._closed = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
