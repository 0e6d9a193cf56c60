"""An OpenAI-compatible server on this machine, whose answers and faults a test decides."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Asked = dict[str, Any]
"""The body of a request."""

WORDS = [first + last for first in "bdfghklmnprstvwz" for last in ("alan", "emor", "inix", "opel", "urast")]


@dataclass
class Reply:
    """What the server answers: an e-mail unless a test says otherwise."""

    status: int = 200
    body: Any = None
    """Sent as JSON; bytes and text are sent as they are, and called JSON if they begin so."""
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """Waited before."""
    hang_up: bool = False
    """Close the connection in the middle of the body."""
    endless: bytes = b""
    """Sent again and again, in place of a body, as long as anybody listens."""
    pause: float = 0.0
    """Waited after each."""


def labels(asked: Asked) -> dict[str, Any]:
    """What the plan in a request's prompt asks for."""
    planned = dict(re.findall(r"^- ([^:]+): (.*)$", asked["messages"][-1]["content"], re.MULTILINE))
    return {
        "issue_category": planned["issue_category"],
        "urgency": planned["urgency"],
        "named": "signs" in planned["name"],
    }


def email(asked: Asked, **changes: Any) -> dict[str, Any]:
    """An e-mail that fits the plan and resembles no other; `changes` replace its fields."""
    planned = labels(asked)
    # The words follow from the request's seed, which is another for each slot and attempt.
    digest = hashlib.sha512(str(asked["seed"]).encode()).digest()
    words = [WORDS[byte % len(WORDS)] for byte in digest[:40]]
    name = f"{words[0].title()} {words[1].title()}"
    written = {
        "email": f"Hello,\n\n{' '.join(words[2:])}.\n\n{name if planned['named'] else 'Bye'}",
        "customer_name": name if planned["named"] else None,
        "issue_category": planned["issue_category"],
        "urgency": planned["urgency"],
        "requested_action": "Look into it.",
    }
    return written | changes


def completion(asked: Asked, text: str, finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    """A chat completion with this text."""
    return {
        "id": f"chatcmpl-{asked['seed']}",
        "object": "chat.completion",
        "created": 0,
        "model": f"{asked['model']}-2024-07-18",
        "system_fingerprint": "fp_test",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None, **message},
                "finish_reason": finish_reason,
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


def good(asked: Asked, **changes: Any) -> Reply:
    """An answer with an e-mail that fits the plan."""
    return Reply(body=completion(asked, json.dumps(email(asked, **changes))))


def error(status: int, message: str, code: Any = None, kind: str | None = None, **headers: str) -> Reply:
    """An error in OpenAI's form."""
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def models(*names: str, **entry: Any) -> dict[str, Reply]:
    """What vLLM says of itself and of models with these names; `entry` replaces what it says of each."""
    listed = [{"id": name, "object": "model", "owned_by": "vllm", **entry} for name in names]
    return {"/v1/models": Reply(body={"object": "list", "data": listed}), "/version": Reply(body={"version": "0.9.1"})}


def chat(text: str | None = "4", reason: str | None = "stop", logprobs: Any = None, **body: Any) -> Reply:
    """An answer to a chat; `body` replaces parts of it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    return Reply(
        body={
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "system_fingerprint": "fp_1",
            "choices": [choice | {"logprobs": logprobs}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
        }
        | body
    )


def continuation(text: str = " 4") -> Reply:
    """An answer to a prompt, cut at its longest."""
    return Reply(
        body={
            "id": "x",
            "object": "text_completion",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "text": text, "finish_reason": "length", "logprobs": None}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 8, "total_tokens": 13},
        }
    )


def of_item(asked: Asked) -> str:
    """The last words of a chat."""
    return str(asked["messages"][-1]["content"])


def probing(asked: Asked) -> bool:
    """Whether it is one of the small questions that the engine begins with."""
    return of_item(asked) == "1"


def _encoded(body: Any) -> bytes:
    return (body if isinstance(body, str) else json.dumps(body)).encode()


class OpenAIServer:
    """Serves until it is closed.

    Attributes:
        asked: the bodies of all requests for a completion, in the order in which they came.
        paths: where they were sent.
        times: when they came, by a monotonic clock.
        retries: the how manieth retry each was, as the client says.
        keys: the Authorization headers that came.
        most_at_once: requests that were answered at the same time.
        address: its base URL.
        pages: what it says at other addresses, such as /v1/models.
    """

    def __init__(
        self, answer: Callable[[Asked], Reply] = good, port: int = 0, pages: Mapping[str, Reply] | None = None
    ) -> None:
        self.answer = answer
        self.pages = dict(pages or {})
        self.asked: list[Asked] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self.retries: list[int] = []
        self.keys: set[str] = set()
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # or each answer's body would wait 40 ms for the client to confirm its head

            def do_GET(self) -> None:
                try:
                    self._send(server.pages.get(self.path, error(404, "no such address")))
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    server.asked.append(asked)
                    server.paths.append(self.path)
                    server.times.append(time.monotonic())
                    server.retries.append(int(self.headers.get("x-stainless-retry-count", 0)))
                    server.keys.add(self.headers.get("Authorization", ""))
                    server._at_once += 1
                    server.most_at_once = max(server.most_at_once, server._at_once)
                try:
                    reply = server.answer(asked)
                    server._closing.wait(reply.seconds)
                    self._send(reply)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client was killed, or did not want to wait
                finally:
                    with server._lock:
                        server._at_once -= 1

            def _send(self, reply: Reply) -> None:
                body = reply.body if isinstance(reply.body, bytes) else _encoded(reply.body)
                self.send_response(reply.status)
                self.send_header("Content-Type", "application/json" if body[:1] in b"{[" else "text/html")
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.endless:
                    self.close_connection = True
                    self.end_headers()
                    while not server._closing.wait(reply.pause):
                        self.wfile.write(reply.endless)
                    return
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if reply.hang_up else body)
                self.close_connection = self.close_connection or reply.hang_up

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening; whoever waits is answered at once."""
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def wait_until(self, condition: Callable[[], bool], seconds: float = 300) -> None:
        """Wait for something to happen.

        Raises:
            TimeoutError: it has not.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("it has not happened")
            time.sleep(0.01)


if __name__ == "__main__":  # by hand: python tests/support/openai_server.py PORT
    import sys

    print(OpenAIServer(port=int(sys.argv[1])).address)  # noqa: T201
