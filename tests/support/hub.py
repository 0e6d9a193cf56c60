"""A stand-in for the Hugging Face Hub on 127.0.0.1, for processes that run with its `environment`.

It speaks what huggingface_hub and datasets really call, over plain HTTP and without Xet. Large files lie behind a
redirect to another origin, as they do on the Hub: the libraries take a file's hash and size from the redirect itself,
and they send no token to where it leads.
"""

import hashlib
import io
import json
import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

Kind = Literal["model", "dataset"]

CHUNK = 64 * 1024
"""Bytes that are sent at once, and that `Hub.slow` waits for."""

_API = re.compile(
    r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(revision|tree|paths-info|refs|auth-check)(?:/([^/]+)(?:/(.+))?)?)?"
)
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_STORED = re.compile(r"/cdn/([0-9a-f]{64})/.+")
_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))")
_COMPLEMENT = bytes(reversed(range(256)))
_DATE = "2025-01-01T00:00:00.000Z"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; the path is as it was sent, with its query, and the headers' names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Blob:
    content: bytes | Path
    size: int
    oid: str
    """Git's name of it; for a large file, of the pointer that git has in its place."""
    sha256: str | None
    """Of a large file; None if git has the file itself."""
    pointer: int = 0

    def open(self) -> io.BufferedIOBase:
        return io.BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb")


@dataclass(slots=True)
class _Repository:
    kind: Kind
    name: str
    gated: bool = False
    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, _Blob]] = field(default_factory=dict)


@dataclass(slots=True)
class _Fault:
    what: str
    where: str
    times: float
    how: Any = None


class _RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        self.status = status
        self.message = message
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.headers |= {name.replace("_", "-"): value for name, value in headers.items()}


class Hub:
    """A context manager: inside it the Hub is up, after it nothing listens at `url` any more.

    Paths in faults are those of the request, without its query. That of a large file's bytes is
    /cdn/SHA256/OWNER/NAME/FILE.

    Attributes:
        tokens: the gated and private repositories that each token may read; the Hub knows no other tokens.
        requests: all that came, in the order in which it came.
    """

    url: str

    def __init__(self) -> None:
        self.tokens: dict[str, set[str]] = {}
        self.requests: list[Request] = []
        self._repositories: dict[tuple[Kind, str], _Repository] = {}
        self._stored: dict[str, _Blob] = {}
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()
        self._servers: list[ThreadingHTTPServer] = []

    def __enter__(self) -> Self:
        self._servers = [_Server(("127.0.0.1", 0), partial(_Handler, self)) for _ in range(2)]
        self.url, self._storage = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def clear(self) -> None:
        """Be as new, at the same address."""
        for kept in (self.tokens, self.requests, self._repositories, self._stored, self._faults):
            kept.clear()

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """What to lay over the environment of a process that is to use this Hub, with all that it keeps in `home`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            # A user may have set these, and they would win over HF_HOME.
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_DATASETS_CACHE": str(home / "datasets"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_TOKEN": token or "",
            "HUGGING_FACE_HUB_TOKEN": "",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # else datasets counts each load at s3.amazonaws.com
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def publish(
        self,
        kind: Kind,
        repo: str,
        files: Mapping[str, bytes | Path],
        *,
        commit: str | None = None,
        branch: str = "main",
        gated: bool = False,
        private: bool = False,
    ) -> str:
        """Commit these files, and no others, to a branch; earlier commits stay.

        Args:
            kind: of the repository.
            repo: OWNER/NAME.
            files: contents by path; a file on disk is read when it is asked for, so it has to stay as it is.
            commit: 40 hexadecimal digits; None derives them from the contents.
            branch: moves to the commit.
            gated: whether its files, though not their names, need a token with access.
            private: whether anything of it does.

        Returns:
            The commit.
        """
        tree = {path: _blob(path, content) for path, content in files.items()}
        named = "".join(f"{path}\0{blob.oid}\n" for path, blob in sorted(tree.items()))
        commit = commit or hashlib.sha1(f"{kind}\0{repo}\n{named}".encode()).hexdigest()
        with self._lock:
            repository = self._repositories.setdefault((kind, repo), _Repository(kind, repo))
            repository.gated, repository.private = gated, private
            repository.commits[commit] = tree
            repository.branches[branch] = commit
            self._stored |= {blob.sha256: blob for blob in tree.values() if blob.sha256}
        return commit

    def forget(self, repo: str, commit: str) -> None:
        """Lose a commit, as when history is rewritten; a branch that is there goes too."""
        with self._lock:
            for repository in self._repositories.values():
                if repository.name == repo:
                    repository.commits.pop(commit, None)
                    repository.branches = {name: at for name, at in repository.branches.items() if at != commit}

    def cut(self, path_ending: str, after: int, times: int = 1) -> None:
        """Close the connection when so many bytes of a body are sent."""
        self._faults.append(_Fault("cut", path_ending, times, after))

    def corrupt(self, path_ending: str, times: int = 1) -> None:
        """Send other bytes, as many."""
        self._faults.append(_Fault("corrupt", path_ending, times))

    def slow(self, path_ending: str, seconds_per_chunk: float) -> None:
        """Wait before each `CHUNK` of a body, from now on."""
        self._faults.append(_Fault("slow", path_ending, float("inf"), seconds_per_chunk))

    def recover(self) -> None:
        """Have no fault from now on."""
        with self._lock:
            self._faults.clear()

    def answer(
        self, path_part: str, status: int, headers: Mapping[str, str] = {}, times: int = 1, body: bytes | None = None
    ) -> None:
        """Answer with an error, or with this body, whatever is asked of paths with this part."""
        self._faults.append(_Fault("answer", path_part, times, (status, dict(headers), body)))

    def _fault(self, what: str, path: str) -> _Fault | None:
        """The fault that is due, counted down."""
        with self._lock:
            for fault in self._faults:
                fits = fault.where in path if what == "answer" else path.endswith(fault.where)
                if fault.what == what and fault.times > 0 and fits:
                    fault.times -= 1
                    return fault
        return None

    def _repository(self, kind: Kind, name: str, token: str | None) -> _Repository:
        if token is not None and token not in self.tokens:
            raise _RefusedError(401, "Invalid credentials in Authorization header")
        repository = self._repositories.get((kind, name))
        if repository is None or (repository.private and not self._may_read(name, token)):
            # A stranger is not told whether there is one. On the Hub this 401 carries no code: the library knows it
            # by the address, which has to begin with https.
            if token is None:
                raise _RefusedError(401, "Invalid username or password.", "RepoNotFound")
            raise _RefusedError(404, "Repository not found", "RepoNotFound")
        return repository

    def _may_read(self, name: str, token: str | None) -> bool:
        return token is not None and name in self.tokens[token]


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # a snapshot is downloaded over many connections at once


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and bodies are sent apart, and would wait for each other

    def __init__(self, hub: Hub, *arguments: Any) -> None:
        self.hub = hub
        super().__init__(*arguments)

    def handle(self) -> None:
        with suppress(ConnectionError):  # tests kill clients
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.hub.requests.append(
            Request(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
        )
        address = urlsplit(self.path)
        try:
            if fault := self.hub._fault("answer", address.path):
                status, headers, page = fault.how
                self._send(status, headers, page or {"error": f"status {status}, as the test wants"})
            else:
                self._route(address.path, parse_qs(address.query) | parse_qs(body))
        except _RefusedError as refused:
            self._send(refused.status, refused.headers, {"error": refused.message})

    do_HEAD = do_POST = do_GET  # noqa: N815

    def _route(self, path: str, query: Mapping[str, list[str]]) -> None:
        if found := _STORED.fullmatch(path):
            if found[1] not in self.hub._stored:
                raise _RefusedError(403, "Access denied")
            self._send_file(self.hub._stored[found[1]], {})
        elif found := _FILE.fullmatch(path):
            repository = self._repository("dataset" if found[1] else "model", found[2])
            self._resolve(repository, unquote(found[3]), unquote(found[4]))
        elif found := _API.fullmatch(path):
            repository = self._repository("dataset" if found[1] == "dataset" else "model", found[2])
            commit = _commit(repository, unquote(found[4] or "main")) if found[3] not in {"refs", "auth-check"} else ""
            tree = repository.commits.get(commit, {})
            asked = {name: values[0].lower() in {"true", "1"} for name, values in query.items()}
            expand = asked.get("expand", False)
            match found[3]:
                case "tree":
                    self._send(200, {}, _listing(tree, unquote(found[5] or ""), asked.get("recursive", False), expand))
                case "paths-info":
                    everything = _listing(tree, "", True, expand)
                    self._send(200, {}, [entry for entry in everything if entry["path"] in query["paths"]])
                case "refs":
                    heads = [
                        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": at}
                        for name, at in repository.branches.items()
                    ]
                    self._send(200, {}, {"branches": heads, "converts": [], "tags": [], "pullRequests": []})
                case "auth-check":
                    self._let_in(repository)
                    self._send(200, {}, {})
                case _:
                    self._send(200, {}, _information(repository, commit, asked.get("blobs", False)))
        else:
            raise _RefusedError(404, "Not found")

    def _let_in(self, repository: _Repository) -> None:
        token = self._token()
        if repository.gated and not self.hub._may_read(repository.name, token):
            restricted = f"Access to {repository.kind} {repository.name} is restricted"
            if token is None:
                raise _RefusedError(401, f"{restricted}. You must be authenticated to access it.", "GatedRepo")
            raise _RefusedError(403, f"{restricted} and you are not in the authorized list.", "GatedRepo")

    def _resolve(self, repository: _Repository, revision: str, path: str) -> None:
        self._let_in(repository)
        commit = _commit(repository, revision)
        blob = repository.commits[commit].get(path)
        if blob is None:
            raise _RefusedError(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit)
        headers = {"X-Repo-Commit": commit}
        if blob.sha256 is None:
            self._send_file(blob, headers)
        else:
            headers |= {
                "Location": f"{self.hub._storage}/cdn/{blob.sha256}/{repository.name}/{quote(path)}",
                "X-Linked-ETag": f'"{blob.sha256}"',
                "X-Linked-Size": str(blob.size),
            }
            self._send(302, headers, None)

    def _token(self) -> str | None:
        header = self.headers.get("Authorization")
        return header.removeprefix("Bearer ") if header else None

    def _repository(self, kind: Kind, name: str) -> _Repository:
        return self.hub._repository(kind, unquote(name), self._token())

    def _send(self, status: int, headers: Mapping[str, str], content: Any) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self._begin(status, {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_file(self, blob: _Blob, headers: Mapping[str, str]) -> None:
        headers = {"ETag": f'"{blob.sha256 or blob.oid}"', "Accept-Ranges": "bytes", **headers}
        begin, end, status = 0, blob.size, 200
        if asked := _RANGE.fullmatch(self.headers.get("Range", "")):
            begin = int(asked[1]) if asked[1] else max(blob.size - int(asked[3]), 0)
            end = min(int(asked[2]) + 1, blob.size) if asked[2] else blob.size
            if begin >= end:
                raise _RefusedError(416, "Range not satisfiable", Content_Range=f"bytes */{blob.size}")
            status = 206
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{blob.size}"
        self._begin(status, {"Content-Type": "application/octet-stream", "Content-Length": str(end - begin), **headers})
        if self.command == "HEAD":
            return
        path = urlsplit(self.path).path
        cut, corrupt, slow = (self.hub._fault(what, path) for what in ("cut", "corrupt", "slow"))
        if cut:
            end = min(end, begin + cut.how)
            self.close_connection = True
        with blob.open() as stream:
            stream.seek(begin)
            while begin < end:
                chunk = stream.read(min(CHUNK, end - begin))
                begin += len(chunk)
                if slow:
                    time.sleep(slow.how)
                self.wfile.write(chunk.translate(_COMPLEMENT) if corrupt else chunk)

    def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _blob(path: str, content: bytes | Path) -> _Blob:
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    if path.endswith((".gguf", ".parquet")):
        if isinstance(content, bytes):
            sha256 = hashlib.sha256(content).hexdigest()
        else:
            sha256 = _hash(content, content.stat().st_mtime_ns)
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        return _Blob(content, size, _oid(pointer), sha256, len(pointer))
    return _Blob(content, size, _oid(content if isinstance(content, bytes) else content.read_bytes()), None)


@cache
def _hash(path: Path, _modified: int) -> str:
    """Hash a file; once, in however many repositories it is."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _commit(repository: _Repository, revision: str) -> str:
    commit = repository.branches.get(revision, revision)
    if commit not in repository.commits:
        raise _RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return commit


def _information(repository: _Repository, commit: str, blobs: bool) -> dict[str, Any]:
    siblings: list[dict[str, Any]] = []
    for path, blob in repository.commits[commit].items():
        sibling: dict[str, Any] = {"rfilename": path}
        if blobs:
            sibling |= {"size": blob.size, "blobId": blob.oid}
            if blob.sha256:
                sibling["lfs"] = {"sha256": blob.sha256, "size": blob.size, "pointerSize": blob.pointer}
        siblings.append(sibling)
    return {
        "id": repository.name,
        "author": repository.name.split("/")[0],
        "sha": commit,
        "lastModified": _DATE,
        "createdAt": _DATE,
        "private": repository.private,
        "gated": "manual" if repository.gated else False,
        "disabled": False,
        "tags": [],
        "siblings": siblings,
    }


def _listing(tree: Mapping[str, _Blob], folder: str, recursive: bool, expand: bool) -> list[dict[str, Any]]:
    """The entries of a folder, or the one of a file."""
    commit = {"lastCommit": {"id": "0" * 40, "title": "Add files", "date": _DATE}} if expand else {}
    entries: dict[str, dict[str, Any]] = {}
    for path, blob in sorted(tree.items()):
        for parent in reversed(PurePosixPath(path).parents[:-1]):
            oid = hashlib.sha1(str(parent).encode()).hexdigest()
            entries[str(parent)] = {"type": "directory", "oid": oid, "size": 0, "path": str(parent), **commit}
        entries[path] = {"type": "file", "oid": blob.oid, "size": blob.size, "path": path, **commit}
        if blob.sha256:
            entries[path]["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": blob.pointer}
    if folder in tree:
        return [entries[folder]]
    if folder and folder not in entries:
        raise _RefusedError(404, f"{folder} does not exist", "EntryNotFound")
    inside = PurePosixPath(folder)
    return [
        entry
        for path, entry in entries.items()
        if (inside in PurePosixPath(path).parents if recursive else PurePosixPath(path).parent == inside)
    ]


def publish_gsm8k(
    hub: Hub, commit: str = "740312add88f781978c0658806c59bc2815b9866", rows: int = 12, gated: bool = False
) -> None:
    """Publish word problems as openai/gsm8k is published, by default under the commit that conf/data/hub pins."""
    problems = {
        "question": [f"A box holds {number} apples. How many apples are in 3 boxes?" for number in range(rows)],
        "answer": [f"3 * {number} = {3 * number}\n#### {3 * number}" for number in range(rows)],
    }
    files = {f"main/{split}-00000-of-00001.parquet": _parquet(problems) for split in ("train", "test")}
    hub.publish("dataset", "openai/gsm8k", files | {"README.md": _card("main")}, commit=commit, gated=gated)


def publish_triviaqa(hub: Hub, question_source: str = "here") -> None:
    """Publish questions as mandarjoshi/trivia_qa is published, under the commit that conf/data/hub pins."""
    numbers = [*range(12), 0]
    questions: dict[str, list[Any]] = {
        "question": [*(f"Question {number}?" for number in range(12)), "question  0"],
        "question_source": [question_source] * 13,
        "answer": [
            {
                "value": f"The Answer {n}",
                "aliases": [f"The Answer {n}", f"Answer {n}"],
                "normalized_aliases": [f"answer {n}"],
            }
            for n in numbers
        ],
    }
    files = {"rc.nocontext/validation-00000-of-00001.parquet": _parquet(questions), "README.md": _card("rc.nocontext")}
    commit = "0f7faf33a3908546c6fd5b73a660e0f8ff173c2f"
    hub.publish("dataset", "mandarjoshi/trivia_qa", files, commit=commit)


def publish_humaneval(hub: Hub) -> None:
    """Publish functions as openai/openai_humaneval is published, under the commit that conf/data/hub pins."""
    functions = {
        "task_id": [f"Own/{number}" for number in range(12)],
        "prompt": [f'def add_{number}(x):\n    """Return x + {number}."""\n' for number in range(12)],
        "canonical_solution": [f"    return x + {number}\n" for number in range(12)],
        "test": [f"def check(candidate):\n    assert candidate(1) == {1 + number}\n" for number in range(12)],
        "entry_point": [f"add_{number}" for number in range(12)],
    }
    folder = "openai_humaneval"
    files = {f"{folder}/test-00000-of-00001.parquet": _parquet(functions), "README.md": _card(folder)}
    commit = "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544"
    hub.publish("dataset", "openai/openai_humaneval", files, commit=commit)


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), buffer)
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def _card(subset: str) -> bytes:
    """A data card whose head says which files are which split, as `datasets` reads it."""
    splits = {"main": ("train", "test"), "rc.nocontext": ("validation",), "openai_humaneval": ("test",)}[subset]
    files = "".join(f"  - split: {split}\n    path: {subset}/{split}-*\n" for split in splits)
    return f"---\nconfigs:\n- config_name: {subset}\n  data_files:\n{files}---\n# A data set\n".encode()
