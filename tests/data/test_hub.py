"""Data from the Hub, through `datasets`, against a server that speaks its protocol: rows, the cache, and each fault."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.hub import Hub, publish_gsm8k, publish_triviaqa

WORKER = Path(__file__).with_name("hub_worker.py")
GSM8K = "openai/gsm8k"
TRIVIAQA = "mandarjoshi/trivia_qa"


@dataclass
class Reader:
    """Somebody who reads data from this Hub, with a cache of their own."""

    hub: Hub
    home: Path

    def read(self, task: str, *overrides: str, token: str | None = None, **environment: str) -> dict[str, Any]:
        """What was loaded, or the error; see hub_worker.py."""
        ended = subprocess.run(
            [sys.executable, str(WORKER), task, *overrides],
            cwd=self.home,
            env={**os.environ, **self.hub.environment(self.home / "hf", token), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert "Traceback" not in ended.stderr
        answer: dict[str, Any] = json.loads(ended.stdout)
        return answer

    def refused(self, task: str, *overrides: str, token: str | None = None, **environment: str) -> str:
        """The sentence."""
        return str(self.read(task, *overrides, token=token, **environment)["error"])


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with Hub() as hub:
        publish_gsm8k(hub)
        publish_triviaqa(hub)
        yield Reader(hub, tmp_path)
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_gsm8k_is_read_as_from_its_file_and_once(reader: Reader) -> None:
    read = reader.read("gsm8k", "data=hub")
    assert [item_id for item_id, _, _ in read["items"]] == [str(number) for number in range(1, 13)]
    assert set(read["items"][0][2]) == {"question", "answer"}
    assert read["examples"] > 0
    path = reader.home / "gsm8k.jsonl"
    path.write_text("".join(json.dumps(fields) + "\n" for _, _, fields in read["items"]))
    assert reader.read("gsm8k", "data=files", f"data.path={path}")["fingerprint"] == read["fingerprint"]

    # The bytes are not fetched again; without a network the cache is enough.
    reader.hub.requests.clear()
    assert reader.read("gsm8k", "data=hub") == read
    assert not [request for request in reader.hub.requests if "/cdn/" in request.path]
    reader.hub.requests.clear()
    assert reader.read("gsm8k", "data=hub", HF_HUB_OFFLINE="1") == read
    assert reader.hub.requests == []


def test_triviaqa_lists_the_answer_first_and_knows_repeated_questions(reader: Reader) -> None:
    items = reader.read("triviaqa", "data=hub")["items"]
    assert set(items[0][2]) == {"question", "aliases"}
    assert items[0][2]["aliases"] == ["The Answer 0", "Answer 0", "answer 0"]  # value, aliases, normalized; each once
    clusters = [cluster for _, cluster, _ in items]
    assert len(items) == 13
    assert clusters[0] == clusters[-1]  # "Question 0?" and "question  0"
    assert len(set(clusters)) == 12


def test_only_the_tasks_columns_are_part_of_the_fingerprint(reader: Reader) -> None:
    read = reader.read("triviaqa", "data=hub")
    publish_triviaqa(reader.hub, question_source="elsewhere")
    again = Reader(reader.hub, reader.home / "again")
    again.home.mkdir()
    assert again.read("triviaqa", "data=hub") == read


def test_the_pinned_revision_is_read_though_the_branch_has_moved(reader: Reader) -> None:
    read = reader.read("gsm8k", "data=hub")
    publish_gsm8k(reader.hub, commit="f" * 40, rows=5)
    other = Reader(reader.hub, reader.home / "other")
    other.home.mkdir()
    assert other.read("gsm8k", "data=hub") == read
    assert len(other.read("gsm8k", "data=hub", "data.revision=main")["items"]) == 5


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
    [
        (["data.subset=nope"], r"openai/gsm8k at revision 740312ad.*nope.*; correct data\.subset=nope or data\.split="),
        (["data.split=nope"], r"openai/gsm8k at revision 740312ad.*nope.*; correct data\.subset=main or data\.split="),
        (
            ["data.columns={question: asked}"],
            r"has no column asked; name others with data\.columns \(its columns: question, answer\)\.$",
        ),
        ([f"data.revision={'a' * 40}"], r"has no revision a+ \(any more\)"),
        (["data.repository=nobody/none"], r"^The Hub has no repository nobody/none that you may read"),
    ],
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


def test_a_hub_in_trouble_or_out_of_reach(reader: Reader) -> None:
    """All at once, since the libraries take half a minute to give up."""
    cached = reader.read("triviaqa", "data=hub")

    def with_status(status: int, **headers: str) -> str:
        home = reader.home / str(status)
        home.mkdir()
        with Hub() as hub:
            hub.answer("/", status, {name.replace("_", "-"): value for name, value in headers.items()}, times=1000)
            return Reader(hub, home).refused("gsm8k", "data=hub")

    away = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    with ThreadPoolExecutor() as pool:
        too_many = pool.submit(with_status, 429, Retry_After="3")
        broken = pool.submit(with_status, 500)
        unreachable = pool.submit(reader.refused, "gsm8k", "data=hub", **away)
        from_cache = pool.submit(reader.read, "triviaqa", "data=hub", **away)
    assert re.search(r"too many requests from here \(status 429\); wait 3 seconds", too_many.result())
    assert re.search(r"could not serve openai/gsm8k \(status 500\); run the same command again", broken.result())
    said = unreachable.result()
    assert re.search(r"^The Hub at http://127\.0\.0\.1:9 cannot be reached \(.*Connection refused\)", said)
    assert said.endswith("or choose data that need none (data=bundled, or data=files with your own).")
    assert from_cache.result() == cached


def test_offline_without_the_data(reader: Reader) -> None:
    said = reader.refused("gsm8k", "data=hub", HF_HUB_OFFLINE="1")
    assert re.search(r"is not on this machine, and HF_HUB_OFFLINE is set; unset it, or choose data that need", said)
    assert reader.hub.requests == []
