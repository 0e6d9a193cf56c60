"""`python -m quantexp.review_extraction`: who has accepted what, and what becomes of the rest."""

import json
import signal
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from pydantic import BaseModel
from rich.console import Console
from running import until
from tests.support.forking import Forker
from tests.support.openai_server import OpenAIServer
from tests.tasks.emails.conftest import Folder

from quantexp.tasks.emails import review_session
from quantexp.tasks.emails.records import Journal


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, forker: Forker) -> dict[str, str]:
    """The two files of four e-mails."""
    folder = Folder(tmp_path_factory.mktemp("made"), forker)
    with OpenAIServer() as server:
        assert folder.generate(server, "items=4", "nameless=0.3").status == 0
    return {path.name: path.read_text() for path in (folder.path / "data").iterdir()}


@pytest.fixture
def emails(folder: Folder, made: dict[str, str]) -> Folder:
    """A folder with four e-mails that nobody has read."""
    (folder.path / "data").mkdir()
    for name, text in made.items():
        (folder.path / "data" / name).write_text(text)
    return folder


def verdicts(folder: Folder) -> list[tuple[str, str, str, str | None]]:
    return [(line["reviewer"], line["id"], line["verdict"], line["reason"]) for line in folder.lines(".reviews")]


def test_accept_reject_quit_and_go_on(emails: Folder) -> None:
    ended = emails.review("a\nr\nno such product\nq\n", "reviewer=Ana")
    assert (ended.err, ended.status) == ("", 0)
    item = emails.lines()[0]
    assert "mail-0001, 1 of 4" in ended.out
    assert "mail-0003, 3 of 4" in ended.out
    assert item["email"].splitlines()[0] in ended.out
    for name in ("customer_name", "issue_category", "urgency", "requested_action"):
        assert name in ended.out
    assert item["customer_name"] in ended.out
    assert verdicts(emails) == [("Ana", "mail-0001", "accept", None), ("Ana", "mail-0002", "reject", "no such product")]
    (first, second) = emails.lines(".reviews")
    assert set(first) == {"reviewer", "id", "sha256", "verdict", "reason", "time"}
    assert first["time"].endswith("+00:00")
    assert len(first["sha256"]) == 64 != len(second["id"])
    assert "Ana: 1 accepted, 1 rejected, 2 open, of all 4 e-mails\n" in ended.out
    assert "verdicts  data/extraction.reviews.jsonl\n" in ended.out

    ended = emails.review("accept\nA\n\n", "reviewer=Ana")
    assert "mail-0001" not in ended.out
    assert "mail-0002" not in ended.out
    assert "Ana: 3 accepted, 1 rejected, 0 open, of all 4 e-mails\n" in ended.out
    assert "anew      python -m quantexp.generate_extraction replaces what is rejected\n" in ended.out

    ended = emails.review("", "reviewer=Ana")
    assert "of 4\n" not in ended.out
    assert len(verdicts(emails)) == 4


def test_skip_and_back(emails: Folder) -> None:
    emails.review("b\ns\na\nb\nr\nstrange\nq\n", "reviewer=Ana")
    assert verdicts(emails) == [("Ana", "mail-0002", "accept", None), ("Ana", "mail-0002", "reject", "strange")]
    # What was skipped comes again; back leads into earlier sessions too.
    ended = emails.review("a\na\na\nb\nb\nb\nr\nlate\n", "reviewer=Ana")
    assert verdicts(emails)[2:] == [
        ("Ana", "mail-0001", "accept", None),
        ("Ana", "mail-0003", "accept", None),
        ("Ana", "mail-0004", "accept", None),
        ("Ana", "mail-0001", "reject", "late"),
    ]
    assert "your verdict" in ended.out
    assert "Ana: 2 accepted, 2 rejected, 0 open" in ended.out
    ended = emails.review("b\na\n", "reviewer=Ana")
    assert "mail-0004, 4 of 4" in ended.out
    assert len(verdicts(emails)) == 7


def test_what_is_no_answer_is_asked_again(emails: Folder) -> None:
    ended = emails.review("x\n\nyes\nr\n\na\nq\n", "reviewer=Ana")
    assert ended.out.count("One letter, please: a, r, s, b or q.") == 3
    assert ended.out.count("A rejection needs a reason.") == 1
    assert ended.out.count("mail-0001, 1 of 4") == 1
    assert verdicts(emails) == [("Ana", "mail-0001", "accept", None)]


@pytest.mark.parametrize("keys", ["", "q\n", "r\n"])
def test_no_verdict_leaves_nothing_behind(emails: Folder, keys: str) -> None:
    before = emails.left_behind()
    ended = emails.review(keys, "reviewer=Ana")
    assert (ended.err, ended.status) == ("", 0)
    assert "Ana: 0 accepted, 0 rejected, 4 open, of all 4 e-mails\n" in ended.out
    assert emails.left_behind() == before


@pytest.mark.parametrize("encoding", ["utf-8:strict", "utf-8:surrogateescape", "ascii:strict"])
def test_bytes_that_are_no_text_do_not_cost_a_verdict(emails: Folder, encoding: str) -> None:
    running = emails.start("review_extraction", "reviewer=Ana", PYTHONIOENCODING=encoding)
    ended = running.end("\udce9\nr\nbad\udce9\na\na\na\n")
    assert (ended.err, ended.status) == ("", 0)
    assert ended.out.count("One letter, please: a, r, s, b or q.") == 1
    assert verdicts(emails)[:2] == [
        ("Ana", "mail-0001", "reject", "bad\\xe9"),
        ("Ana", "mail-0002", "accept", None),
    ]
    assert "Ana: 3 accepted, 1 rejected, 0 open, of all 4 e-mails\n" in emails.review("", "reviewer=Ana").out


def test_without_any_input(emails: Folder) -> None:
    before = emails.left_behind()
    command = [sys.executable, "-m", "quantexp.review_extraction", "reviewer=Ana"]
    ended = emails.start_as(["sh", "-c", 'exec "$@" <&-', "-", *command]).end()
    assert (ended.err, ended.status) == ("", 0)
    assert "Ana: 0 accepted, 0 rejected, 4 open, of all 4 e-mails\n" in ended.out
    assert emails.left_behind() == before


def test_both_commands_say_how_many_verdicts_cannot_be_read(emails: Folder, serve: Callable[[], OpenAIServer]) -> None:
    emails.review("a\na\nq\n", "reviewer=Ana")
    path = emails.path / "data" / "extraction.reviews.jsonl"
    first, second = path.read_text().splitlines()
    # Half a surrogate pair, as older versions wrote, and what a crash leaves.
    lone = first.replace('"reason": null', '"reason": "bad\\udce9"')
    path.write_text(f"{lone}\n{second}\n{first[:50]}\n")
    said = "2 lines of data/extraction.reviews.jsonl cannot be read, as after a crash, and will be passed over.\n"
    ended = emails.review("", "reviewer=Ana")
    assert ended.out.startswith(said)
    assert "Ana: 1 accepted, 0 rejected, 3 open, of all 4 e-mails\n" in ended.out
    assert emails.generate(serve(), "items=4", "nameless=0.3").out.startswith(said)


def test_several_reviewers_agree_or_not(emails: Folder) -> None:
    emails.review("a\nr\nodd\na\n", "reviewer=Ana", "first=3")
    ended = emails.review("a\na\nq\n", "reviewer=Ben van Dam")
    assert "Ben van Dam: 2 accepted, 0 rejected, 2 open, of all 4 e-mails\n" in ended.out
    assert "Ana and Ben van Dam agree on 1 of the 2 that both have judged (50%)\n" in ended.out


def test_only_the_first_are_read(emails: Folder) -> None:
    ended = emails.review("a\na\n", "reviewer=Ana", "first=2")
    assert "mail-0002, 2 of 2" in ended.out
    assert "mail-0003" not in ended.out
    assert "Ana: 2 accepted, 0 rejected, 0 open, of the first 2 e-mails, of 4\n" in ended.out


def test_in_a_terminal_with_ctrl_c(emails: Folder) -> None:
    with emails.at_terminal("review_extraction", "reviewer=Ana") as (command, type_keys):
        type_keys("a\n")
        until("a judgement", lambda: emails.lines(".reviews"))
        command.send_signal(signal.SIGINT)
        status, out, err = command.communicate(900)
    assert "Ana: 1 accepted, 0 rejected, 3 open, of all 4 e-mails\n" in out
    assert (status, err) == (0, "")


def test_a_verdict_counts_from_when_it_is_written(emails: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may come at any time, so between a verdict's way to the disk and what follows, too."""

    class Interrupted(Journal):
        def append(self, line: BaseModel) -> None:
            super().append(line)
            raise KeyboardInterrupt

    page = StringIO()
    monkeypatch.setattr(review_session, "Journal", Interrupted)
    monkeypatch.setattr(review_session, "asked", lambda _: "a")
    path = emails.path / "data" / "extraction.reviews.jsonl"
    reading = review_session.Reading(Console(file=page, width=100), "Ana", emails.lines(), [], path)
    reading.walk()
    reading.conclude(4, "data/extraction.jsonl")
    assert len(emails.lines(".reviews")) == 1
    assert "Ana: 1 accepted, 0 rejected, 3 open, of all 4 e-mails\n" in page.getvalue()


def test_what_is_rejected_is_made_anew_and_read_again(emails: Folder, serve: type[OpenAIServer]) -> None:
    emails.review("a\nr\nodd\na\na\n", "reviewer=Ana")
    emails.review("a\na\na\na\n", "reviewer=Ben")
    before = emails.lines()
    server = serve()
    ended = emails.generate(server, "items=4", "nameless=0.3")
    assert (ended.err, ended.status) == ("", 0)
    assert "1 e-mail to make, because a reviewer has rejected what was there; 3 of 4 are in" in ended.out
    assert "answers   5 accepted (1 of them rejected or replaced after a review), 0 rejected\n" in ended.out
    assert len(server.asked) == 1
    after = emails.lines()
    assert [item["id"] for item in after] == [item["id"] for item in before]
    assert [new == old for new, old in zip(after, before, strict=True)] == [True, False, True, True]
    for reviewer in ("Ana", "Ben"):
        assert f"{reviewer}: 3 accepted, 0 rejected, 1 open" in emails.review("", f"reviewer={reviewer}").out
    # A change of mind about the old one brings nothing back; the new one is accepted now.
    emails.review("a\n", "reviewer=Ana")
    assert emails.generate(server, "items=4", "nameless=0.3").status == 0
    assert len(server.asked) == 1
    assert emails.lines() == after


def test_a_rejected_email_does_not_come_again(emails: Folder, serve: type[OpenAIServer], made: dict[str, str]) -> None:
    emails.review("r\nodd\nq\n", "reviewer=Ana")
    old = emails.lines(".records")
    (answer,) = [record["answer"] for record in old if record["slot"] == 0]
    server = serve()
    well = server.answer

    def same(asked: dict[str, object]) -> object:
        reply = well(asked)
        reply.body["choices"][0]["message"]["content"] = answer
        return reply

    server.answer = same  # type: ignore[assignment]
    ended = emails.generate(server, "items=4", "nameless=0.3", "attempts=1")
    assert ended.status == 1
    assert "duplicate (similarity 1.00 to mail-0001)" in ended.out
    assert [item["id"] for item in emails.lines()] == ["mail-0002", "mail-0003", "mail-0004"]


def test_the_terminal_is_not_steered_by_what_a_model_wrote(folder: Folder) -> None:
    row = {
        "id": "mail-0001",
        "email": "Hello\x1b[2J [bold]there[/bold] \u202eeversed\r and\x07 more",
        "customer_name": "Eve\x1b]0;title\x07",
        "issue_category": "billing",
        "urgency": "low",
        "requested_action": "[red]Pay[/red]",
    }
    (folder.path / "mails.jsonl").write_text(json.dumps(row) + "\n")
    ended = folder.review("", "reviewer=Ana", "path=mails.jsonl")
    assert "Hello\\x1b[2J [bold]there[/bold] \\u202eeversed\\r and\\x07 more" in ended.out
    assert "Eve\\x1b]0;title\\x07" in ended.out
    assert "[red]Pay[/red]" in ended.out
    assert not {"\x1b", "\x07", "\u202e"} & set(ended.out)


@pytest.mark.parametrize(
    ("arguments", "content", "said"),
    [
        ("", "", "reviewer has no value; add reviewer=VALUE to the command."),
        ("reviewer=", "", "reviewer must be a name, since it is kept with every verdict; add reviewer=NAME."),
        ("reviewer=Ana first=0", "", "first=0 is too small; it must be at least 1."),
        (
            "reviewer=Ana",
            None,
            "path=data/extraction.jsonl is not a file; make it with python -m quantexp.generate_extraction.",
        ),
        ("reviewer=Ana", "{}\n", "path=data/extraction.jsonl, item 1: an item of extraction needs the field 'email'"),
        ("reviewer=Ana", "no\n", "path=data/extraction.jsonl: line 1 is not JSON"),
    ],
)
def test_a_wrong_command_gets_one_sentence(folder: Folder, arguments: str, content: str | None, said: str) -> None:
    if content is not None:
        path: Path = folder.path / "data" / "extraction.jsonl"
        path.parent.mkdir()
        path.write_text(content)
    before = folder.left_behind()
    ended = folder.review("", *arguments.split())
    assert ended.err.startswith(f"quantexp: {said}")
    assert ended.err.count("\n") == 1
    assert (ended.out, ended.status) == ("", 2)
    assert folder.left_behind() == before
