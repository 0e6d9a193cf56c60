"""Data from the Hub, through `datasets`, against a server that speaks its protocol: rows, the cache, and each fault."""

import json
import re
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.forking import Forker
from tests.support.hub import Hub, publish_gsm8k, publish_triviaqa
from tests.support.variants import mark_slow

GSM8K = "openai/gsm8k"
NOWHERE = "http://127.0.0.1:9"
MINE = "data.repository=me/mine"


def publish_mine(hub: Hub, columns: dict[str, list[Any]]) -> bytes:
    """Publish one file without a card."""
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), buffer)
    content: bytes = buffer.getvalue().to_pybytes()
    hub.publish("dataset", "me/mine", {"test.parquet": content})
    return content


@dataclass
class Reader:
    """Somebody who reads data from this Hub, with a cache of their own, and room for files of so many bytes."""

    hub: Hub
    home: Path
    cache: Path
    prepared: Forker
    """Has the libraries imported already, which read this Hub's address and the cache's place when they are."""
    fresh: Forker
    """Has not, for an environment that differs."""
    room: int = resource.RLIM_INFINITY

    def read(self, task: str, *overrides: str, token: str | None = None, **environment: str) -> dict[str, Any]:
        """What was loaded, or the error; see hub_worker.py."""
        given = self.hub.environment(self.cache, token) | environment
        worker = self.fresh if environment else self.prepared
        ended = worker.run(self.home, "hub_worker", str(self.room), task, *overrides, environment=given)
        assert ended.status == 0, ended.err
        assert "Traceback" not in ended.err
        said = [line for line in ended.err.splitlines() if "error" in line.lower() or "fail" in line.lower()]
        assert not said  # by the libraries, beside our sentence
        answer: dict[str, Any] = json.loads(ended.out)
        return answer

    def forget(self) -> None:
        """Empty the cache, as on another machine."""
        shutil.rmtree(self.cache, ignore_errors=True)

    def refused(self, task: str, *overrides: str, token: str | None = None, **environment: str) -> str:
        """The sentence."""
        return str(self.read(task, *overrides, token=token, **environment)["error"])


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def workers(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Forker, Forker]]:
    cache = tmp_path_factory.mktemp("hub") / "hf"
    with (
        closing(Forker(hub.environment(cache), "hub_worker", "datasets")) as prepared,
        closing(Forker({}, "hub_worker")) as fresh,
    ):
        yield cache, prepared, fresh


@pytest.fixture
def reader(tmp_path: Path, hub: Hub, workers: tuple[Path, Forker, Forker]) -> Iterator[Reader]:
    hub.clear()
    publish_gsm8k(hub)
    publish_triviaqa(hub)
    reader = Reader(hub, tmp_path, *workers)
    yield reader
    reader.forget()
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_gsm8k_is_read_as_from_its_file_and_once(reader: Reader) -> None:
    read = reader.read("gsm8k", "data=hub")
    assert [item_id for item_id, _, _ in read["items"]] == [str(number) for number in range(1, 13)]
    assert set(read["items"][0][2]) == {"question", "answer"}
    assert read["examples"] > 0
    path = reader.home / "gsm8k.jsonl"
    path.write_text("".join(json.dumps(fields) + "\n" for _, _, fields in read["items"]))
    assert reader.read("gsm8k", "data=files", f"data.path={path}")["fingerprint"] == read["fingerprint"]

    # What is pinned is not asked for again, so no network is needed.
    reader.hub.requests.clear()
    assert reader.read("gsm8k", "data=hub") == read
    assert reader.read("gsm8k", "data=hub", HF_HUB_OFFLINE="1") == read
    assert reader.read("gsm8k", "data=hub", HF_ENDPOINT=NOWHERE) == read
    assert reader.hub.requests == []


def test_triviaqa_lists_the_answer_first_and_knows_repeated_questions(reader: Reader) -> None:
    items = reader.read("triviaqa", "data=hub")["items"]
    assert set(items[0][2]) == {"question", "aliases"}
    assert items[0][2]["aliases"] == ["The Answer 0", "Answer 0", "answer 0"]  # value, aliases, normalized; each once
    clusters = [cluster for _, cluster, _ in items]
    assert len(items) == 13
    assert clusters[0] == clusters[-1]  # "Question 0?" and "question  0"
    assert len(set(clusters)) == 12


@pytest.mark.slow
def test_only_the_tasks_columns_are_part_of_the_fingerprint(reader: Reader) -> None:
    read = reader.read("triviaqa", "data=hub")
    publish_triviaqa(reader.hub, question_source="elsewhere")
    reader.forget()
    assert reader.read("triviaqa", "data=hub") == read


def test_the_pinned_revision_is_read_though_the_branch_has_moved(reader: Reader) -> None:
    read = reader.read("gsm8k", "data=hub")
    publish_gsm8k(reader.hub, commit="f" * 40, rows=5)
    reader.forget()
    assert reader.read("gsm8k", "data=hub") == read
    assert len(reader.read("gsm8k", "data=hub", "data.revision=main")["items"]) == 5


def test_a_cut_connection_is_resumed(reader: Reader) -> None:
    reader.hub.cut("test-00000-of-00001.parquet", after=700)
    assert len(reader.read("gsm8k", "data=hub")["items"]) == 12


def test_a_folder_of_the_same_name_is_not_taken_for_the_data(reader: Reader) -> None:
    folder = reader.home / GSM8K
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"question": ["mine"], "answer": ["#### 1"]}), folder / "test.parquet")
    assert len(reader.read("gsm8k", "data=hub")["items"]) == 12


@pytest.mark.parametrize(
    ("overrides", "said"),
    mark_slow(
        [
            (
                ["data.subset=nope"],
                r"openai/gsm8k at revision 740312ad.*nope.*; correct data\.subset=nope or data\.split=",
            ),
            (
                ["data.split=nope"],
                r"openai/gsm8k at revision 740312ad.*nope.*; correct data\.subset=main or data\.split=",
            ),
            (
                ["data.columns={question: asked}"],
                r"has no column asked; name others with data\.columns \(its columns: question, answer\)\.$",
            ),
            ([f"data.revision={'a' * 40}"], r"has no revision a+ \(any more\)"),
            (["data.repository=nobody/none"], r"^The Hub has no repository nobody/none that you may read"),
        ],
        after=2,
    ),
)
def test_what_is_not_there(reader: Reader, overrides: list[str], said: str) -> None:
    assert re.search(said, reader.refused("gsm8k", "data=hub", *overrides))


def test_tokens(reader: Reader) -> None:
    publish_gsm8k(reader.hub, gated=True)
    reader.hub.tokens = {"stranger": set(), "friend": {GSM8K}}
    assert re.search(r"is gated, and no token was sent: accept its licence at", reader.refused("gsm8k", "data=hub"))
    said = reader.refused("gsm8k", "data=hub", token="stranger")
    assert "the account of your token has not been given access" in said
    said = reader.refused("gsm8k", "data=hub", token="expired")
    assert re.search(r"refuses your token for openai/gsm8k \(status 401\)", said)
    assert len(reader.read("gsm8k", "data=hub", token="friend")["items"]) == 12


@pytest.mark.slow
def test_another_commit_in_the_cache_is_not_taken_for_the_one_that_is_asked_for(reader: Reader) -> None:
    reader.read("gsm8k", "data=hub")
    assert "has no revision" in reader.refused("gsm8k", "data=hub", f"data.revision={'a' * 40}")
    said = reader.refused("gsm8k", "data=hub", f"data.revision={'a' * 40}", HF_HUB_OFFLINE="1")
    assert re.search("at revision a+ is not on this machine", said)


def test_a_branch_is_asked_for_its_commit_and_offline_is_what_it_was(reader: Reader) -> None:
    parts = (MINE, "data.revision=main", "data.subset=null")
    publish_mine(reader.hub, {"question": ["Who?"], "answer": ["#### 1"]})
    first = reader.read("gsm8k", "data=hub", *parts)
    reader.hub.requests.clear()
    assert reader.read("gsm8k", "data=hub", *parts) == first
    assert [request.path for request in reader.hub.requests] == ["/api/datasets/me/mine/revision/main"]
    publish_mine(reader.hub, {"question": ["Who?", "What?"], "answer": ["#### 1", "#### 2"]})
    assert reader.read("gsm8k", "data=hub", *parts, HF_HUB_OFFLINE="1") == first
    assert len(reader.read("gsm8k", "data=hub", *parts)["items"]) == 2


@pytest.mark.slow
def test_the_only_subset_need_not_be_named(reader: Reader) -> None:
    read = reader.read("gsm8k", "data=hub", "data.subset=null")
    assert reader.read("gsm8k", "data=hub", "data.subset=null", HF_ENDPOINT=NOWHERE) == read
    assert len(read["items"]) == 12


def test_id_and_difficulty_are_read_where_there_are_some(reader: Reader) -> None:
    columns: dict[str, list[Any]] = {
        "id": ["alpha", None],
        "ask.text": ["Who?", "What?"],
        "answer": ["#### 1", "#### 2"],
        "rest": [1, 2],
    }
    publish_mine(reader.hub, {**columns, "difficulty": [3, None]})
    read = reader.read(
        "gsm8k", "data=hub", MINE, "data.revision=main", "data.subset=null", "data.columns={question: ask.text}"
    )
    assert [(item_id, fields) for item_id, _, fields in read["items"]] == [
        ("alpha", {"question": "Who?", "answer": "#### 1"}),
        ("2", {"question": "What?", "answer": "#### 2"}),
    ]
    assert read["difficulties"] == [3, None]


def test_a_hub_in_trouble(reader: Reader) -> None:
    reader.hub.answer("/", 429, {"Retry-After": "3"}, times=1)
    said = reader.refused("gsm8k", "data=hub")
    assert re.search(r"too many requests from here \(status 429\); wait 3 seconds", said)
    reader.hub.answer("/", 500, times=1)
    said = reader.refused("gsm8k", "data=hub")
    assert re.search(r"could not serve openai/gsm8k \(status 500\); run the same command again", said)
    assert len(reader.hub.requests) == 2


def test_a_hub_out_of_reach(reader: Reader) -> None:
    began = time.monotonic()
    said = reader.refused("gsm8k", "data=hub", HF_ENDPOINT=NOWHERE)
    assert time.monotonic() - began < 20  # the library would try for longer than that
    assert re.search(r"^The Hub at http://127\.0\.0\.1:9 cannot be reached \(.*Connection refused\)", said)
    assert said.endswith("or choose data that need none (data=bundled, or data=files with your own).")


def test_a_page_of_a_network_is_not_the_hub(reader: Reader) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Log in</html>")

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        there = f"http://127.0.0.1:{server.server_port}"
        said = reader.refused("gsm8k", "data=hub", HF_ENDPOINT=there)
        server.shutdown()
    assert there in said
    assert "HF_ENDPOINT" in said


@pytest.mark.parametrize("damage", ["head", "middle"])
def test_broken_files_are_not_blamed_on_the_subset(reader: Reader, damage: str) -> None:
    content = publish_mine(reader.hub, {"question": ["Who?"], "answer": ["#### 1"]})
    broken = b"PAR1 no" if damage == "head" else content[:20] + b"\xff" * 20 + content[40:]
    reader.hub.publish("dataset", "me/mine", {"test.parquet": broken})
    said = reader.refused("gsm8k", "data=hub", MINE, "data.revision=main", "data.subset=null")
    assert re.search(r"^me/mine at revision main cannot be read \(.*\); its files there may be broken", said)


def test_a_full_disk_is_named(reader: Reader) -> None:
    # So alike that the download is small and what is made of it is not.
    publish_mine(reader.hub, {"question": ["Who? " * 200] * 3000, "answer": ["#### 1"] * 3000})
    reader.room = 1_000_000
    said = reader.refused("gsm8k", "data=hub", MINE, "data.revision=main", "data.subset=null")
    assert re.search(r"cannot be prepared: the system refused \(File too large\); mend that, or set HF_HOME", said)


def test_a_data_set_that_is_a_program(reader: Reader) -> None:
    reader.hub.publish("dataset", "me/mine", {"mine.py": b"print()"})
    said = reader.refused("gsm8k", "data=hub", MINE, "data.revision=main", "data.subset=null")
    assert re.search(r"^me/mine at revision main is made by a program of its own", said)


@pytest.mark.parametrize("name", ["a/b/c", "-a/b"])
def test_a_name_that_no_repository_has(reader: Reader, name: str) -> None:
    said = reader.refused("gsm8k", "data=hub", f"data.repository={name}")
    assert re.search(f"{name}.*OWNER/NAME", said)


def test_offline_without_the_data(reader: Reader) -> None:
    said = reader.refused("gsm8k", "data=hub", HF_HUB_OFFLINE="1")
    assert re.search(r"is not on this machine, and HF_HUB_OFFLINE is set; unset it, or choose data that need", said)
    assert reader.hub.requests == []
