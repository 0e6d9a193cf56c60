"""Models from the Hub, against a server that speaks its protocol: what is fetched, kept and checked, each fault."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from running import until
from tests.support.forking import Forker, Running
from tests.support.gguf_files import write_gguf
from tests.support.hub import Hub
from tests.support.variants import mark_slow

from quantexp.models.download import select_headers

REPOSITORY = "publisher/Tiny-GGUF"
MEGABYTE = 1 << 20


@dataclass
class User:
    """Somebody at a shell in an empty folder, with this Hub as theirs."""

    hub: Hub
    folder: Path
    home: Path
    forker: Forker
    token: str | None = None

    def start(self, *arguments: str, module: str = "quantexp.models", **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env=os.environ | self._environment() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def models(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        if "PYTHONPATH" in environment:
            process = self.start(*arguments, **environment)
            out, err = process.communicate(timeout=900)
            return process.returncode, out, err
        return self.begin(*arguments, **environment).communicate(900)

    def begin(self, *arguments: str, **environment: str) -> Running:
        """Begin `quantexp.models` in a process whose imports are done."""
        self.home.mkdir(exist_ok=True)
        given = self._environment() | environment
        return self.forker.start(self.folder, "quantexp.models", *arguments, environment=given, files=self.home)

    def _environment(self) -> dict[str, str]:
        here = {"XDG_CACHE_HOME": str(self.home / "cache"), "COLUMNS": "200"}
        return self.hub.environment(self.home / "hf", self.token) | here

    def fetch(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        chosen = ("model=hub", f"model.repository={REPOSITORY}", *arguments)
        return self.models("fetch", *chosen, **environment)

    def with_site(self, code: str) -> dict[str, str]:
        """The environment in which Python runs this code first."""
        folder = self.home / "site"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(code)
        return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}

    def refused(self, *arguments: str, **environment: str) -> str:
        """The sentence of a fetch that is refused, and nothing else but its own notes of what it was about to do."""
        status, out, err = self.fetch(*arguments, **environment)
        *notes, sentence = err.splitlines()
        assert status == 2
        assert out == ""
        assert sentence.startswith("quantexp: ")
        assert all(
            re.match(r"\d\d:\d\d:\d\d (asking|downloading|checking|leaving|replacing|taking) ", note) for note in notes
        )
        return sentence.removeprefix("quantexp: ")

    @property
    def sums(self) -> str:
        path = self.folder / "models" / "SHA256SUMS"
        return path.read_text() if path.is_file() else ""

    def file(self, name: str) -> Path:
        return self.folder / "models" / REPOSITORY / name

    def downloads(self) -> list[str]:
        """The bytes that were asked for: path and range."""
        return [
            request.path.rsplit("/", 1)[-1] + " " + request.headers.get("range", "all")
            for request in self.hub.requests
            if request.method == "GET" and "/cdn/" in request.path
        ]


@pytest.fixture
def user(tmp_path: Path, forker: Forker) -> Iterator[User]:
    folder = tmp_path / "here"
    folder.mkdir()
    with Hub() as hub:
        yield User(hub, folder, tmp_path, forker)
    shutil.rmtree(tmp_path, ignore_errors=True)


Published = dict[str, Path]


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """What publishers of quants put into a repository, by name; nobody writes into it."""
    folder = tmp_path_factory.mktemp("stock")
    paths = [
        *write_gguf(folder / "Tiny-Q8_0.gguf", "Q8_0", seed=1),
        *write_gguf(folder / "Tiny-Q4_K_M.gguf", "Q4_K_M", seed=2),
        *write_gguf(folder / "Tiny-Q3_K_M.gguf", "Q3_K_M", seed=3, parts=3),
    ]
    return {path.name: path for path in paths}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 34 MB: the library writes a download to the disk in pieces of 10."""
    [path] = write_gguf(tmp_path_factory.mktemp("large") / "Tiny-Q8_0.gguf", "Q8_0", seed=1, elements=4 * MEGABYTE)
    return path


@pytest.fixture
def published(user: User, stock: Published) -> Published:
    """A repository as publishers of quants make them; its files, by name."""
    user.hub.publish("model", REPOSITORY, {**stock, "README.md": b"# Tiny"})
    return dict(stock)


@pytest.fixture
def published_large(user: User, published: Published, large: Path) -> Published:
    """The same repository, of which Q8_0 takes a while to download."""
    published[large.name] = large
    user.hub.publish("model", REPOSITORY, {**published, "README.md": b"# Tiny"})
    return published


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sha256sum(user: User) -> subprocess.CompletedProcess[str]:
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    return subprocess.run(command, cwd=user.folder / "models", capture_output=True, text=True, check=False)


# All goes well


def test_quants_are_found_by_name_fetched_once_and_listed(user: User, published: Published) -> None:
    commit = user.hub.publish("model", REPOSITORY, published)
    status, out, err = user.fetch("quant=Q8_0,Q4_K_M,Q3_K_M")
    assert (status, err.count("Traceback")) == (0, 0)
    assert re.search(r"downloading 0\.2 MB to ", err)
    assert re.search(r"downloading Tiny-Q4_K_M\.gguf, [\d.]+ kB\n", err)
    for name, path in published.items():
        assert user.file(name).read_bytes() == path.read_bytes()
    assert user.sums.splitlines()[0] == f"# {REPOSITORY} at main, commit {commit}"
    assert sorted(user.sums.splitlines()[1:]) == sorted(
        f"{sha256(path)}  {REPOSITORY}/{name}" for name, path in published.items()
    )
    assert "Q8_0: " in out
    checked = sha256sum(user)
    assert checked.returncode == 0
    assert checked.stdout.count(": OK") == 5

    # What is here costs nothing, not even a question.
    user.hub.requests.clear()
    again = user.fetch("quant=Q8_0,Q4_K_M,Q3_K_M")
    assert again == (0, out, "")
    assert user.hub.requests == []
    assert user.models("verify", HF_HUB_OFFLINE="1")[0] == 0


@pytest.mark.slow
def test_a_folder_that_was_copied_is_used_without_a_network(user: User, published: Published) -> None:
    user.fetch("quant=Q4_K_M")
    elsewhere = user.folder.parent / "elsewhere"
    shutil.copytree(user.folder / "models", elsewhere / "models")
    offline = User(user.hub, elsewhere, user.home / "other", user.forker)
    user.hub.requests.clear()
    status, out, _ = offline.fetch("quant=Q4_K_M", HF_HUB_OFFLINE="1")
    assert status == 0
    assert sha256(published["Tiny-Q4_K_M.gguf"]) in out
    assert user.hub.requests == []


def test_list_shows_what_is_here(user: User, published: Published) -> None:
    user.fetch("quant=Q4_K_M")
    status, out, _ = user.models("list")
    assert status == 0
    assert f"{REPOSITORY}/Tiny-Q4_K_M.gguf" in out
    assert "qwen2.5-7b-instruct" in out
    assert "Llama 3.1 Community License" in out


@pytest.mark.slow
def test_list_cuts_no_name_on_a_narrow_terminal(user: User, published: Published) -> None:
    name = f"long-{'name-' * 30}[/b]-Q4_K_M.gguf"
    user.hub.publish("model", REPOSITORY, {name: published["Tiny-Q4_K_M.gguf"]})
    user.fetch("quant=Q4_K_M")
    status, out, err = user.models("list", COLUMNS="80")
    assert (status, err) == (0, "")
    assert "…" not in out
    columns = [line.split("│")[1:-1] for line in out.splitlines() if line.startswith("│")]
    first = "".join(cells[0].strip() for cells in columns)
    assert f"{REPOSITORY}/{name}" in first
    assert "mistral-7b-instruct-v0.3" in first
    assert columns[0][1].strip().endswith(" kB")


@pytest.mark.slow
def test_the_arguments_of_a_sweep_are_taken_as_they_are(user: User, published: Published) -> None:
    status, out, _ = user.fetch("-m", "quant=Q4_K_M,Q3_K_M")
    assert status == 0
    assert re.search(r"Tiny-Q4_K_M\.gguf \([\d.]+ kB, sha256 ", out)


def test_the_identity_of_a_split_model_covers_all_parts(user: User, published: Published) -> None:
    parts = sorted(path for name, path in published.items() if "-of-" in name)
    expected = hashlib.sha256("\n".join(sha256(part) for part in parts).encode()).hexdigest()
    _, out, _ = user.fetch("quant=Q3_K_M")
    assert expected in out
    assert "Tiny-Q3_K_M-00001-of-00003.gguf" in out


@pytest.mark.slow
def test_one_file_is_taken_before_the_parts_of_the_same_quant(user: User, published: Published) -> None:
    merged = published["Tiny-Q4_K_M.gguf"]
    user.hub.publish("model", REPOSITORY, {**published, "Tiny-Q3_K_M.gguf": published["Tiny-Q4_K_M.gguf"]})
    status, _, err = user.fetch("quant=as-is", "quant.name=Q3_K_M")
    assert status == 0
    assert "taking Tiny-Q3_K_M.gguf, which is there in 3 parts too (model.file=Tiny-Q3_K_M-00001-of-00003.gguf" in err
    assert user.file("Tiny-Q3_K_M.gguf").read_bytes() == merged.read_bytes()


@pytest.mark.slow
def test_the_plain_label_wins_over_one_that_is_here_already(user: User, published: Published) -> None:
    names = {"Tiny-UD-Q4_K_M.gguf": "Tiny-Q4_K_M.gguf", "Tiny.i1-Q8_0.gguf": "Tiny-Q8_0.gguf"}
    user.hub.publish("model", REPOSITORY, {name: published[other] for name, other in names.items()})
    status, _, err = user.fetch("quant=Q4_K_M,Q8_0")
    assert status == 0
    assert "taking Tiny-UD-Q4_K_M.gguf for Q4_K_M, as no file is plainly named so" in err
    shutil.rmtree(user.folder / "models")

    user.hub.publish("model", REPOSITORY, {**published, "Tiny-UD-Q4_K_M.gguf": published["Tiny-Q4_K_M.gguf"]})
    assert user.fetch("quant=as-is", "quant.name=UD-Q4_K_M")[0] == 0
    # The list of what else there was is kept, so that the same is chosen without the Hub.
    assert "Tiny-UD-Q4_K_M.gguf" not in user.refused("quant=Q4_K_M", HF_HUB_OFFLINE="1")
    assert user.fetch("quant=as-is", "quant.name=UD-Q4_K_M", HF_HUB_OFFLINE="1")[0] == 0
    status, out, _ = user.fetch("quant=Q4_K_M")
    assert status == 0
    assert re.search(r"Tiny-Q4_K_M\.gguf \(", out)
    assert user.fetch("quant=Q4_K_M", HF_HUB_OFFLINE="1")[:2] == (0, out)


def test_types_of_forks_are_refused_before_the_download(user: User, published: Published) -> None:
    user.hub.publish("model", REPOSITORY, {**published, "Tiny-smol-IQ4_KSS.gguf": published["Tiny-Q4_K_M.gguf"]})
    for arguments in (["quant=as-is", "quant.name=IQ4_KSS"], ["quant=as-is", "model.file=Tiny-smol-IQ4_KSS.gguf"]):
        said = user.refused(*arguments)
        assert said.endswith(
            ": Tiny-smol-IQ4_KSS.gguf is IQ4_KSS, a type of ik_llama.cpp, a fork, which llama.cpp cannot read; choose "
            "another of its quants: Q3_K_M, Q4_K_M, Q8_0."
        )
    assert user.downloads() == []


def test_a_file_chosen_by_name(user: User, published: Published) -> None:
    assert user.fetch("model.file=Tiny-Q4_K_M.gguf", "quant=Q4_K_M")[0] == 0
    said = user.refused("model.file=Tiny-Q8_0.gguf", "quant=Q4_K_M")
    assert re.search(r"Tiny-Q8_0\.gguf holds Q8_0, not Q4_K_M; set quant=Q8_0", said)


# Verification


def test_verify_sees_a_changed_and_a_missing_file(user: User, published: Published) -> None:
    user.fetch("quant=Q8_0,Q4_K_M")
    user.file("Tiny-Q8_0.gguf").unlink()
    path = user.file("Tiny-Q4_K_M.gguf")
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as rot on a disk would: nothing tells but the bytes

    status, out, _ = user.models("verify")
    assert status == 1
    assert f"{REPOSITORY}/Tiny-Q4_K_M.gguf: OK" in out
    assert f"{REPOSITORY}/Tiny-Q8_0.gguf: MISSING" in out
    status, out, _ = user.models("verify", "--full")
    assert status == 1
    assert f"{REPOSITORY}/Tiny-Q4_K_M.gguf: CHANGED" in out
    assert "not all as downloaded" in out
    assert sha256sum(user).returncode == 1

    said = user.refused("quant=Q4_K_M")
    assert "it has changed since it was downloaded; delete it" in said
    path.unlink()
    assert user.fetch("quant=Q8_0,Q4_K_M")[0] == 0
    assert user.models("verify", "--full")[0] == 0
    assert sha256sum(user).returncode == 0


@pytest.mark.slow
def test_lines_of_others_in_the_checksums_stay(user: User, published: Published) -> None:
    (user.folder / "models").mkdir()
    mine = f"# mine\n{'0' * 64}  my-model.gguf\n"
    (user.folder / "models" / "SHA256SUMS").write_text(mine)
    user.fetch("quant=Q4_K_M")
    user.fetch("quant=Q8_0")
    assert user.sums.startswith(mine)
    assert user.sums.count("commit") == 1
    assert len(user.sums.splitlines()) == 5


# Faults


def test_a_cut_connection_is_resumed(user: User, published_large: Published) -> None:
    user.hub.cut("Tiny-Q8_0.gguf", after=25 * MEGABYTE)
    status, _, err = user.fetch("quant=Q8_0")
    assert status == 0
    assert re.search(r"downloading 3\d\.\d MB to ", err)
    assert user.file("Tiny-Q8_0.gguf").read_bytes() == published_large["Tiny-Q8_0.gguf"].read_bytes()
    assert user.downloads() == ["Tiny-Q8_0.gguf all", f"Tiny-Q8_0.gguf bytes={20 * MEGABYTE}-"]


def test_a_killed_download_goes_on_where_it_was(user: User, published_large: Published) -> None:
    user.hub.slow("Tiny-Q8_0.gguf", 0.01)  # 540 pieces of 64 kB
    process = user.begin("fetch", "model=hub", f"model.repository={REPOSITORY}", "quant=Q8_0")
    until("a part", lambda: any(path.stat().st_size > MEGABYTE for path in user.folder.rglob("*.incomplete")))
    process.send_signal(signal.SIGKILL)
    process.communicate(60)
    assert not user.file("Tiny-Q8_0.gguf").exists()
    assert user.sums == ""

    user.hub.recover()
    assert user.fetch("quant=Q8_0")[0] == 0
    assert user.file("Tiny-Q8_0.gguf").read_bytes() == published_large["Tiny-Q8_0.gguf"].read_bytes()
    resumed = re.fullmatch(r"Tiny-Q8_0\.gguf bytes=(\d+)-", user.downloads()[-1])
    assert resumed
    assert int(resumed[1]) > MEGABYTE


def test_wrong_bytes_are_deleted_and_told(user: User, published: Published) -> None:
    user.hub.corrupt("Tiny-Q4_K_M.gguf")
    said = user.refused("quant=Q4_K_M")
    assert sha256(published["Tiny-Q4_K_M.gguf"]) in said
    assert "but the Hub announces" in said
    assert not user.file("Tiny-Q4_K_M.gguf").exists()
    assert user.sums == ""
    assert user.fetch("quant=Q4_K_M")[0] == 0


@pytest.mark.slow
def test_not_a_model(user: User) -> None:
    user.hub.publish("model", REPOSITORY, {"Tiny-Q4_K_M.gguf": b"<html>no</html>"})
    assert "is not a complete GGUF file" in user.refused("quant=Q4_K_M")


def test_too_little_room_is_told_before_the_first_byte(user: User, published: Published) -> None:
    commit = user.hub.publish("model", REPOSITORY, published)
    tree = user.hub._repositories["model", REPOSITORY].commits[commit]
    tree["Tiny-Q8_0.gguf"] = replace(tree["Tiny-Q8_0.gguf"], size=10**16)  # as the Hub would announce it
    said = user.refused("quant=Q8_0,Q4_K_M")
    assert re.search(
        r"models has [\d.]+ GB free, and 10000000\.0 GB are to be downloaded "
        r"\(Tiny-Q8_0\.gguf, Tiny-Q4_K_M\.gguf\); make room",
        said,
    )
    assert user.downloads() == []
    assert user.fetch("quant=Q4_K_M")[0] == 0


def test_gated(user: User, published: Published) -> None:
    user.hub.publish("model", REPOSITORY, published, gated=True)
    user.hub.tokens = {"stranger": set(), "friend": {REPOSITORY}}
    said = r"is gated, and no token was sent: accept its licence at http://127\.0\.0\.1:\d+/publisher/Tiny-GGUF, then"
    assert re.search(said, user.refused("quant=Q4_K_M"))
    user.token = "stranger"
    said = "is gated, and the account of your token has not been given access: accept its licence at http://"
    assert said in user.refused("quant=Q4_K_M")
    user.token = "friend"
    assert user.fetch("quant=Q4_K_M")[0] == 0


@pytest.mark.slow
def test_private_unknown_and_refused(user: User, published: Published) -> None:
    user.hub.publish("model", REPOSITORY, published, private=True)
    user.hub.tokens = {"stranger": set(), "friend": {REPOSITORY}}
    assert "if it is private, make a token at the Hub and log in" in user.refused("quant=Q4_K_M")
    user.token = "stranger"
    assert "if it is private, use a token that may read it" in user.refused("quant=Q4_K_M")
    user.token = "expired"
    assert re.search(r"refuses your token .*status 401", user.refused("quant=Q4_K_M"))
    user.token = "friend"
    assert user.fetch("quant=Q4_K_M")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    mark_slow(
        [
            (
                ("quant=Q6_K",),
                r"^quant=Q6_K: \S+ has no such file at revision main, commit [0-9a-f]{12}; "
                r"it has Q3_K_M, Q4_K_M, Q8_0\.$",
            ),
            (
                ("model.file=Other.gguf",),
                r"^model\.file=Other\.gguf: \S+ has no such file at revision main, commit [0-9a-f]{12}; it has",
            ),
            (("model.revision=v9",), r"has no revision v9 \(any more\).*set the revision to main"),
            (("model.repository=nobody/none",), r"^The Hub has no repository nobody/none that you may read"),
            (("model.revision=",), r"^model\.revision is empty; set it to a commit, or to a branch such as main\.$"),
            (("model.file=README.md",), r"^model\.file=README\.md is not a GGUF; name a file that ends in \.gguf"),
            (("model.repository=-a/b",), r"^-a/b cannot be a repository of the Hub; write it as OWNER/NAME"),
            (("model.repository=../..",), r"^\.\./\.\. cannot be a repository of the Hub"),
            (("model.repository=a/b.git",), r"^a/b\.git cannot be a repository of the Hub.* without \.git"),
            (("model.repository=nonsense",), r"needs model\.repository=OWNER/NAME.*not nonsense\.$"),
        ],
        after=4,
    ),
)
def test_what_is_not_there(user: User, published: Published, arguments: tuple[str, ...], said: str) -> None:
    assert re.search(said, user.refused(*arguments))
    assert user.downloads() == []


@pytest.mark.slow
def test_a_pinned_commit_that_is_gone(user: User, published: Published) -> None:
    commit = user.hub.publish("model", REPOSITORY, published)
    user.fetch("quant=Q4_K_M", f"model.revision={commit}")
    user.hub.publish("model", REPOSITORY, {"Tiny-Q8_0.gguf": published["Tiny-Q8_0.gguf"]})
    user.hub.forget(REPOSITORY, commit)
    assert "its history may have been rewritten" in user.refused("quant=Q8_0", f"model.revision={commit}")
    assert user.fetch("quant=Q4_K_M", f"model.revision={commit}")[0] == 0  # what is here stays usable


@pytest.mark.slow
def test_a_branch_that_moved_does_not_mix_two_states(user: User, published: Published, tmp_path: Path) -> None:
    old = user.hub.publish("model", REPOSITORY, published)
    user.fetch("quant=Q4_K_M")
    [newer] = write_gguf(tmp_path / "newer" / "Tiny-Q8_0.gguf", "Q8_0", seed=9)
    new = user.hub.publish("model", REPOSITORY, {**published, "Tiny-Q8_0.gguf": newer})
    status, _, err = user.fetch("quant=Q8_0")
    assert status == 0
    assert f"main of {REPOSITORY} has moved to commit {new[:12]}; what is here is of {old[:12]}" in err
    assert sha256(user.file("Tiny-Q8_0.gguf")) == sha256(published["Tiny-Q8_0.gguf"])
    assert user.fetch("quant=Q8_0", f"model.revision={new}")[0] == 0
    assert sha256(user.file("Tiny-Q8_0.gguf")) == sha256(newer)


@pytest.mark.slow
def test_a_branch_that_moved_and_has_lost_its_old_commit(user: User, published: Published) -> None:
    old = user.hub.publish("model", REPOSITORY, {"Tiny-Q8_0.gguf": published["Tiny-Q8_0.gguf"]})
    user.fetch("quant=Q8_0")
    new = user.hub.publish("model", REPOSITORY, published)
    status, _, err = user.fetch("quant=Q4_K_M")  # the old state has none
    assert status == 2
    assert f"has no such file at revision main, commit {old[:12]}; it has Q8_0." in err
    user.hub.forget(REPOSITORY, old)
    said = user.refused("quant=Q4_K_M")
    assert f"has moved to commit {new}, and commit {old}, which the files here are of, is gone from the Hub" in said
    assert said.endswith(f"; set model.revision={new} to take the new state.")
    assert user.fetch("quant=Q4_K_M", f"model.revision={new}")[0] == 0


def test_a_login_page_instead_of_the_hub(user: User, published: Published) -> None:
    user.hub.answer("/api/models", 200, {"Content-Type": "text/html"}, times=100, body=b"<html>Log in</html>")
    assert re.search(r"does not answer like a Hub; a login page of the network may stand", user.refused("quant=Q4_K_M"))


@pytest.mark.parametrize("address", mark_slow(["notaurl", "http://127.0.0.1:99999", "http://[::1", ""], after=1))
def test_a_hub_at_no_address(user: User, address: str) -> None:
    said = user.refused("quant=Q4_K_M", HF_ENDPOINT=address)
    assert said.startswith(f"HF_ENDPOINT={address} is not the address of a Hub; unset it")


@pytest.mark.parametrize("token", mark_slow(["hf_t\u00f6ken", "hf_\x01token"], after=1))
def test_a_token_that_cannot_be_one(user: User, published: Published, token: str) -> None:
    said = user.refused("quant=Q4_K_M", HF_TOKEN=token)
    assert said.startswith("The token for the Hub (HF_TOKEN, or what hf auth login has stored) holds characters")
    assert token not in said


@pytest.mark.skipif(find_spec("socksio") is not None, reason="here SOCKS proxies work")
def test_a_socks_proxy_without_its_package(user: User, published: Published) -> None:
    said = user.refused("quant=Q4_K_M", ALL_PROXY="socks5://127.0.0.1:9", NO_PROXY="", no_proxy="")
    assert re.search(r"^A SOCKS proxy is set .* run: pip install socksio, or unset it\.$", said)


def test_too_many_requests(user: User, published: Published) -> None:
    user.hub.answer("/api/models", 429, {"Retry-After": "17"}, times=100)
    assert re.search(r"too many requests .*status 429.*wait 17 seconds", user.refused("quant=Q4_K_M"))


def test_a_hub_in_trouble_for_a_moment_and_for_long(user: User, published: Published) -> None:
    user.hub.answer("/resolve/", 503, times=1)
    assert user.fetch("quant=Q4_K_M")[0] == 0
    user.hub.answer("/api/models", 500, times=100)
    assert re.search(r"could not serve .*status 500.*run the same command again later", user.refused("quant=Q8_0"))


def test_no_network(user: User, published: Published) -> None:
    said = user.refused("quant=Q4_K_M", HF_ENDPOINT="http://127.0.0.1:9")
    assert said.startswith(
        "The Hub at http://127.0.0.1:9 cannot be reached ([Errno 111] Connection refused), and publisher/Tiny-GGUF is "
        "not, or not whole, on this machine; run the same command again when there is a network, or fetch it where "
        "there is one"
    )
    said = user.refused("quant=Q4_K_M", HF_HUB_OFFLINE="1")
    assert re.search(r"at revision main is not on this machine, and HF_HUB_OFFLINE is set; unset it, or fetch it", said)


# Files that are there already


def test_a_file_of_the_users_own_is_not_overwritten(user: User, published: Published) -> None:
    [mine] = write_gguf(user.file("Tiny-Q4_K_M.gguf"), "Q4_K_M", seed=77)
    before = mine.read_bytes()
    said = user.refused("quant=Q8_0,Q4_K_M")
    assert re.search(r"Tiny-Q4_K_M\.gguf is here with other bytes than publisher/Tiny-GGUF has at commit", said)
    assert said.endswith("; move it away, or set model.folder to another folder.")
    assert user.downloads() == []
    assert mine.read_bytes() == before
    shutil.copyfile(published["Tiny-Q4_K_M.gguf"], mine)  # the same bytes are welcome
    assert user.fetch("quant=Q4_K_M")[0] == 0
    assert user.downloads() == []
    assert sha256sum(user).returncode == 0


@pytest.mark.slow
def test_a_file_of_another_commit_is_replaced_aloud(user: User, published: Published, tmp_path: Path) -> None:
    old = user.hub.publish("model", REPOSITORY, published)
    [newer] = write_gguf(tmp_path / "newer" / "Tiny-Q4_K_M.gguf", "Q4_K_M", seed=9)
    new = user.hub.publish("model", REPOSITORY, {"Tiny-Q4_K_M.gguf": newer})
    assert user.fetch("quant=Q4_K_M", f"model.revision={old}")[0] == 0
    status, _, err = user.fetch("quant=Q4_K_M", f"model.revision={new}")
    assert status == 0
    assert re.search(rf"replacing .*Tiny-Q4_K_M\.gguf, which is of another commit, by that of {new[:12]}", err)
    assert sha256(user.file("Tiny-Q4_K_M.gguf")) == sha256(newer)
    user.file("Tiny-Q4_K_M.gguf").write_bytes(b"my own work")
    assert "is here with other bytes" in user.refused("quant=Q4_K_M", f"model.revision={old}")


@pytest.mark.slow
def test_a_corrupt_copy_in_the_hubs_cache_is_left_aside(user: User, published: Published) -> None:
    commit = user.hub.publish("model", REPOSITORY, published)
    snapshot = user.home / "hf" / "hub" / "models--publisher--Tiny-GGUF" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    content = bytearray(published["Tiny-Q4_K_M.gguf"].read_bytes())
    content[-1] ^= 1
    (snapshot / "Tiny-Q4_K_M.gguf").write_bytes(content)
    shutil.copyfile(published["Tiny-Q8_0.gguf"], snapshot / "Tiny-Q8_0.gguf")
    status, _, err = user.fetch("quant=Q8_0,Q4_K_M")
    assert status == 0
    assert "leaving the copy of Tiny-Q4_K_M.gguf in the Hub's cache" in err
    assert "taking Tiny-Q8_0.gguf from the Hub's cache" in err
    assert user.downloads() == ["Tiny-Q4_K_M.gguf all"]


@pytest.mark.slow
def test_room_is_needed_only_for_what_is_missing(user: User, published_large: Published) -> None:
    user.fetch("quant=Q3_K_M")
    size = published_large["Tiny-Q3_K_M-00002-of-00003.gguf"].stat().st_size
    free = f"shutil.disk_usage = lambda path: usage(path)._replace(free={size})"
    tight = user.with_site(f"import shutil\nusage = shutil.disk_usage\n{free}")
    user.file("Tiny-Q3_K_M-00002-of-00003.gguf").unlink()
    assert user.fetch("quant=Q3_K_M", **tight)[0] == 0
    user.file("Tiny-Q4_K_M.gguf.0000000000000000.incomplete").write_bytes(bytes(40 * MEGABYTE))  # of another file
    assert "make room" in user.refused("quant=Q8_0", **tight)


@pytest.mark.slow
def test_a_second_process_says_that_it_waits(user: User, published_large: Published) -> None:
    user.hub.slow("Tiny-Q8_0.gguf", 0.02)
    chosen = ("fetch", "model=hub", f"model.repository={REPOSITORY}", "quant=Q8_0")
    first = user.start(*chosen)
    until("a part", lambda: list(user.folder.rglob("*.incomplete")))
    status, _, err = user.models(*chosen)
    first.communicate(timeout=900)
    assert (status, first.returncode) == (0, 0)
    assert "waiting for another process, which is downloading Tiny-Q8_0.gguf" in err
    assert user.downloads() == ["Tiny-Q8_0.gguf all"]


@pytest.mark.parametrize(
    ("place", "sent"),
    [
        ("https://hub/file", True),
        ("http://hub/file", False),  # in the open
        ("https://storage/file", False),
        ("https://hub:8443/file", False),
    ],
)
def test_the_token_goes_to_the_hub_alone(place: str, sent: bool) -> None:
    headers = select_headers(place, "https://hub/a/b", {"authorization": "Bearer x", "user-agent": "y"})
    assert ("authorization" in headers) is sent
    assert headers["user-agent"] == "y"


@pytest.mark.slow
def test_a_storage_that_sends_another_number_of_bytes(user: User, published: Published) -> None:
    commit = user.hub.publish("model", REPOSITORY, published)
    tree = user.hub._repositories["model", REPOSITORY].commits[commit]
    blob = tree["Tiny-Q4_K_M.gguf"]
    for announced in (blob.size - 10, blob.size + 10):
        tree["Tiny-Q4_K_M.gguf"] = replace(blob, size=announced)
        said = user.refused("quant=Q4_K_M")
        assert f"came with {blob.size} bytes, but the Hub announces {announced}; run the same command again" in said
    assert "416" in user.refused("quant=Q4_K_M")  # there is nothing after what is here
    tree["Tiny-Q4_K_M.gguf"] = blob
    assert user.fetch("quant=Q4_K_M")[0] == 0


@pytest.mark.slow
def test_a_file_that_the_library_finds_too_large(user: User, published: Published) -> None:
    limited = user.with_site("import huggingface_hub.constants as c\nc.MAX_HTTP_DOWNLOAD_SIZE = 1000")
    assert user.fetch("quant=Q8_0", **limited)[0] == 0


# Names and lists that somebody else has written


@pytest.mark.slow
def test_names_that_lead_elsewhere_or_cannot_be_shown_are_left_out(user: User, published: Published) -> None:
    stock = published["Tiny-Q4_K_M.gguf"]
    names = [
        "../../made/by/hub/x-Q4_K_M.gguf",
        f"{user.home}/absolute-Q4_K_M.gguf",
        "a\\b-Q4_K_M.gguf",
        "./x-Q4_K_M.gguf",
        "C:x-Q4_K_M.gguf",
        "\x1b]0;owned\x07-Q4_K_M.gguf",
        "Tiny\u2028x-Q4_K_M.gguf",
        f"{'x' * 250}-Q4_K_M.gguf",
    ]
    user.hub.publish("model", REPOSITORY, dict.fromkeys(names, stock))
    before = sorted(user.home.rglob("*"))
    status, out, err = user.fetch("quant=Q4_K_M")
    assert (status, out) == (2, "")
    assert "leaving out 8 file(s) of publisher/Tiny-GGUF" in err
    assert "has no such file" in err
    assert "\x1b" not in err
    assert "\u2028" not in err
    assert [path for path in user.home.rglob("*") if "lock" in path.name or "Q4_K_M" in path.name] == [
        path for path in before if "Q4_K_M" in path.name
    ]
    user.hub.publish("model", REPOSITORY, dict.fromkeys([*names, "sub/Tiny-Q4_K_M.gguf"], stock))
    assert user.fetch("quant=Q4_K_M")[0] == 0
    assert sha256sum(user).returncode == 0


@pytest.mark.slow
def test_a_list_of_checksums_with_other_line_ends_and_bytes(user: User, published: Published) -> None:
    user.fetch("quant=Q4_K_M")
    path = user.folder / "models" / "SHA256SUMS"
    head, entry = path.read_bytes().splitlines()
    mine = b"# caf\xe9 \xe2\x80\xa8 mine"
    odd = entry.replace(b"Tiny-Q4_K_M", b"\xe9\x1b[31m")
    (user.folder / "models" / os.fsdecode(odd[66:])).write_bytes(b"")
    path.write_bytes(b"\r\n".join([mine, head, entry, odd, b""]))
    status, out, err = user.models("verify")
    assert (status, err) == (1, "")
    assert f"{REPOSITORY}/Tiny-Q4_K_M.gguf: OK" in out
    assert "\x1b" not in out
    assert user.models("list")[0] == 0
    assert user.fetch("quant=Q8_0")[0] == 0
    assert path.read_bytes().startswith(mine + b"\n")
    assert odd in path.read_bytes()
