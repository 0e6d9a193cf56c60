"""`python -m quantexp.generate_extraction` against a real server: llama_cpp.server with the embedded model."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.emails.conftest import Folder

from quantexp.emails.prompt import Email
from quantexp.models import ModelFile


@pytest.fixture
def address(q8_0: ModelFile, tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"model": q8_0.path, "n_ctx": 2048, "n_threads": 1, "host": "127.0.0.1", "port": port, "verbose": False}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "llama_cpp.server", *words], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 120
            while True:
                assert server.poll() is None, (tmp_path / "server.log").read_text()
                assert time.monotonic() < deadline
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models").close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.kill()
            server.wait()


def test_constrained_answers_are_in_the_schema_and_checked_all_the_same(folder: Folder, address: str) -> None:
    """So small a model writes no usable e-mail, or hardly ever; what it writes has the form, and is kept and judged."""
    command = ("structured=json_object", "api_key_variable=null", "model.name=demo", f"base_url={address}")
    small = ("items=2", "attempts=2", "max_tokens=160", "concurrency=2", "yes=true")
    ended = folder.start("generate_extraction", *command, *small).end()
    assert ended.err == ""
    records = folder.lines(".records")
    assert 2 <= len(records) <= 4
    for record in records:
        assert record["finish_reason"] in {"stop", "length"}
        if record["finish_reason"] == "stop":
            Email.model_validate_json(record["answer"])
        assert record["reason"] != "not in the schema"
        assert record["input_tokens"] > 100
        assert 0 < record["output_tokens"] <= 160
    accepted = sum(record["accepted"] for record in records)
    assert len(folder.lines()) == accepted
    assert ended.status == (0 if accepted == 2 else 1)
    assert f"({accepted} of 2)" in ended.out
