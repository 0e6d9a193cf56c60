"""`python -m quantexp.generate_extraction` against a server that answers well, or badly, or not at all."""

import asyncio
import json
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from running import until
from tests.support.forking import Forker
from tests.support.openai_server import Asked, OpenAIServer, Reply, completion, email, error, good, labels
from tests.support.variants import mark_slow
from tests.tasks.emails.conftest import KEY, Folder

from quantexp.config.emails import GenerateConfig
from quantexp.tasks.emails.client import Client
from quantexp.tasks.extraction import CATEGORIES, TASK, URGENCIES
from quantexp.util.errors import UserError

Serve = Callable[..., OpenAIServer]
GOES_ON = "run the same command again, which goes on from here."


def first_time(fault: Callable[[Asked], Reply], times: int = 1) -> Callable[[Asked], Reply]:
    """Answers the first requests with a fault, and all others well."""
    left = [fault] * times
    return lambda asked: left.pop()(asked) if left else good(asked)


def always(reply: Reply) -> Callable[[Asked], Reply]:
    """Answers every request alike."""
    return lambda _: reply


def test_two_hundred_balanced_emails(folder: Folder, serve: Serve) -> None:
    def answer(asked: Asked) -> Reply:
        until("eight requests at once", lambda: server.most_at_once >= 8)
        return good(asked)

    server = serve(answer)
    ended = folder.generate(server, "concurrency=8", "price.input=0.15", "price.output=0.6")
    assert ended.err == ""
    assert ended.status == 0
    assert len(server.asked) == 200
    assert server.most_at_once == 8

    items = folder.lines()
    assert [item["id"] for item in items] == [f"mail-{number:04}" for number in range(1, 201)]
    assert [list(item) for item in items] == [["id", *TASK.required_fields]] * 200
    for item in items:
        TASK.validate(item)
        assert item["customer_name"] is None or item["customer_name"] in item["email"]
    pairs = Counter((item["issue_category"], item["urgency"]) for item in items)
    assert set(pairs) == {(category, urgency) for category in CATEGORIES for urgency in URGENCIES}
    assert set(pairs.values()) == {13, 14}
    assert 28 <= sum(item["customer_name"] is None for item in items) <= 32

    assert "200 e-mails to make; 0 of 200 are in data/extraction.jsonl." in ended.out
    assert "answers   200 accepted, 0 rejected\n" in ended.out
    assert "this run  200 answers, 20,000 tokens in, 2,000 out, $0.0042\n" in ended.out
    assert "│ all       │" in ended.out
    assert "e-mails   data/extraction.jsonl (200 of 200)\n" in ended.out
    assert "next      python -m quantexp.review_extraction reviewer=NAME\n" in ended.out
    assert folder.left_behind() == ["data", "data/extraction.jsonl", "data/extraction.records.jsonl"]

    before = (folder.path / "data/extraction.jsonl").stat().st_mtime_ns
    again = folder.generate(server, "price.input=0.15", "price.output=0.6", "yes=false", OPENAI_API_KEY="")
    assert again.status == 0
    assert "all runs  200 answers, 20,000 tokens in, 2,000 out, $0.0042\n" in again.out
    assert len(server.asked) == 200
    assert (folder.path / "data/extraction.jsonl").stat().st_mtime_ns == before


def test_what_is_sent_and_what_is_kept(folder: Folder, serve: Serve) -> None:
    server = serve()
    folder.generate(server, "items=2", "seed=7", "temperature=0.5", "max_tokens=300")
    for asked in server.asked:
        assert asked["model"] == "gpt-4o-mini"
        assert asked["temperature"] == 0.5
        assert asked["max_tokens"] == 300
        assert asked["response_format"]["type"] == "json_schema"
        described = asked["response_format"]["json_schema"]
        assert described["strict"] is True
        assert list(described["schema"]["properties"]) == list(TASK.required_fields)
        assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    records = {record["slot"]: record for record in folder.lines(".records")}
    assert len(records) == 2
    for slot, record in records.items():
        (asked,) = [asked for asked in server.asked if asked["seed"] == record["request_seed"]]
        item = folder.lines()[slot]
        assert {**json.loads(record["answer"]), "id": f"mail-{slot + 1:04}"} == item
        kept = {"prompt_sha256", "prompt_version", "time", "answer", "slot", "request_seed"}
        assert {name: value for name, value in record.items() if name not in kept} == {
            "attempt": 1,
            "seed": 7,
            "nameless": 0.15,
            "model": "gpt-4o-mini",
            "answered_by": "gpt-4o-mini-2024-07-18",
            "server": server.address,
            "temperature": 0.5,
            "system_fingerprint": "fp_test",
            "response_id": f"chatcmpl-{asked['seed']}",
            "finish_reason": "stop",
            "input_tokens": 100,
            "output_tokens": 10,
            "accepted": True,
            "reason": None,
            "detail": None,
        }
        assert len(record["prompt_sha256"]) == 64
    assert records[0]["prompt_sha256"] != records[1]["prompt_sha256"]


def test_a_server_that_takes_the_schema_beside_the_type(folder: Folder, serve: Serve) -> None:
    server = serve()
    ended = folder.generate(server, "items=1", "structured=json_object", "temperature=null", "api_key_variable=null")
    assert ended.status == 0
    (asked,) = server.asked
    assert asked["response_format"]["type"] == "json_object"
    assert list(asked["response_format"]["schema"]["properties"]) == list(TASK.required_fields)
    assert "temperature" not in asked
    assert not any(KEY in key for key in server.keys)


@pytest.mark.parametrize(
    ("typed", "goes_on"),
    [
        ("y\n", True),
        ("\n", False),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in (("YES\n", True), ("n\n", False), ("\x04", False))),
    ],
)
def test_nothing_is_spent_before_it_is_allowed(folder: Folder, serve: Serve, typed: str, goes_on: bool) -> None:
    server = serve()
    with folder.at_terminal("generate_extraction", f"base_url={server.address}", "items=3") as (command, type_keys):
        type_keys(typed)
        status, out, err = command.communicate(900)
    assert "3 e-mails to make; 0 of 3 are in data/extraction.jsonl." in out
    assert "go on? [y/N]" in out
    assert err == ""
    assert len(server.asked) == (3 if goes_on else 0)
    assert status == (0 if goes_on else 1)
    if not goes_on:
        assert out.endswith("Nothing was sent.\n")
        assert folder.left_behind() == []


def test_the_cost_of_gpt_4o_mini_is_estimated_without_asking_anybody(folder: Folder) -> None:
    ended = folder.run("generate_extraction")
    assert ended.err == (
        "quantexp: Nothing was sent, because there is no terminal to ask on; add yes=true to spend without asking.\n"
    )
    assert ended.status == 2
    lines = ended.out.splitlines()
    assert lines[1] == "model     gpt-4o-mini at https://api.openai.com/v1"
    estimate, most = (float(line.partition("$")[2].split()[0].rstrip(",")) for line in lines[2:4])
    assert 0.01 < estimate < 0.20
    assert estimate < most < 2
    assert folder.left_behind() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    mark_slow(
        [
            ("items=0", "items=0 is too small; it must be at least 1."),
            ("nameless=1.5", "nameless=1.5 must be a share between 0 and 1, such as 0.15."),
            ("timeout=0", "timeout=0.0 must be a number of seconds above 0."),
            ("temperature=-1", "temperature=-1.0 is too small; it must be at least 0."),
            ("model=gpt-4o", "model=gpt-4o: this command's model is called model.name; write model.name=gpt-4o."),
            ("price.input=1", "price.input and price.output belong together; give both, or neither."),
            ("out=data/mails.csv", "out=data/mails.csv: the file's name must end in .jsonl."),
            (
                "base_url=localhost:8000",
                "base_url=localhost:8000 must begin with http:// or https://, as in http://127.0.0.1:8000/v1.",
            ),
            *(
                (
                    f"base_url={address}",
                    f"base_url={address} is not an address with a host and a possible port; write it as in "
                    "http://127.0.0.1:8000/v1.",
                )
                for address in (
                    "http://",
                    "http:///v1",
                    "http://127.0.0.1:99999/v1",
                    "http://host:abc",
                    "http://1.2.3/v1",
                )
            ),
            ("temperature=nan", "temperature=nan must be a finite number."),
            ("price.input=nan price.output=1", "price.input=nan must be a finite number."),
            ("price.input=1 price.output=inf", "price.output=inf must be a finite number."),
            ("structured=xml", "structured=xml: there is no such choice; choose one of json_schema, json_object."),
            ("key=sk-123", "key: there is no such key; choose one of out, items, seed, nameless, model, base_url, "),
            (
                "api_key_variable=NO_SUCH_KEY",
                "The environment variable NO_SUCH_KEY holds no key; set it, name another with "
                "api_key_variable=NAME, or, for a server that needs none, set api_key_variable=null.",
            ),
        ],
        after=8,
    ),
)
def test_a_wrong_command_gets_one_sentence(folder: Folder, arguments: str, said: str) -> None:
    ended = folder.generate(None, *arguments.split())
    assert ended.err.startswith(f"quantexp: {said}")
    assert ended.err.count("\n") == 1
    assert ended.out == ""
    assert ended.status == 2
    assert folder.left_behind() == []


def test_a_key_that_cannot_be_one(folder: Folder) -> None:
    ended = folder.generate(None, OPENAI_API_KEY="“sk-123”")
    assert (
        ended.err
        == "quantexp: What the environment variable OPENAI_API_KEY holds cannot be a key; copy the key again.\n"
    )
    assert ended.status == 2


FAULTS = {
    "401": (
        error(401, f"Incorrect API key provided: {KEY}. You can find yours elsewhere.", "invalid_api_key"),
        "{server} does not accept the key in OPENAI_API_KEY (401: Incorrect API key provided: ***. You can find yours "
        f"elsewhere); put a valid key in OPENAI_API_KEY, and {GOES_ON}",
    ),
    "403": (
        error(403, "Country, region, or territory not supported"),
        "{server} does not allow the key in OPENAI_API_KEY to do this (403: Country, region, or territory not "
        "supported); use another key.",
    ),
    "404": (
        error(404, "The model `gpt-4o-mini` does not exist", "model_not_found"),
        "{server} does not know the model gpt-4o-mini, or the address is wrong (404: The model `gpt-4o-mini` does not "
        "exist); check model.name and base_url.",
    ),
    "400": (
        error(400, "Invalid parameter:\n\x1b[31m'response_format'"),
        "{server} does not accept the request (400: Invalid parameter: \\x1b[31m'response_format'); check model.name, "
        "temperature, max_tokens and structured.",
    ),
    "quota": (
        error(429, "You exceeded your current quota.", "insufficient_quota", "insufficient_quota", Retry_After="60"),
        "The account of the key in OPENAI_API_KEY has no credit left (429: You exceeded your current quota); add some, "
        f"and {GOES_ON}",
    ),
}


def test_what_no_repetition_mends_is_told_at_once(folder: Folder, serve: Serve) -> None:
    # Two e-mails are made before it happens.
    answers = iter([good, good])
    server = serve(lambda asked: next(answers, lambda _: FAULTS["401"][0])(asked))
    for number, (reply, said) in enumerate(FAULTS.values()):
        if number:
            server.answer = always(reply)
        ended = folder.generate(server, "items=6", "concurrency=1")
        assert ended.err == f"quantexp: {said.replace('{server}', server.address)}\n"
        assert ended.status == 2
        assert ended.out.endswith(
            "2 of 6 e-mails are in data/extraction.jsonl, and every answer is kept; the same command goes on from "
            "here.\n"
        )
        assert server.retries == [0] * (3 + number)
        assert len(folder.lines()) == 2
    server.answer = good
    assert folder.generate(server, "items=6").status == 0
    assert len(server.asked) == 2 + len(FAULTS) + 4
    assert len(folder.lines()) == 6


def test_a_passing_fault_is_not_even_noticed(folder: Folder, serve: Serve) -> None:
    faults: list[Callable[[Asked], Reply]] = [
        lambda _: error(500, "The server had an error"),
        lambda _: error(503, "Overloaded"),
        lambda _: Reply(502, "<html>Bad gateway</html>"),
        lambda _: Reply(seconds=60),
        lambda asked: Reply(body=good(asked).body, hang_up=True),
    ]
    answers = iter([each for fault in faults for each in (fault, good)])
    server = serve(lambda asked: next(answers)(asked))
    ended = folder.generate(server, "items=5", "concurrency=1", "timeout=2")
    assert (ended.err, ended.status) == ("", 0)
    assert server.retries == [0, 1] * 5
    assert [record["accepted"] for record in folder.lines(".records")] == [True] * 5


def test_a_429_is_waited_out_as_long_as_the_server_says(folder: Folder, serve: Serve) -> None:
    server = serve(first_time(lambda _: error(429, "Rate limit reached", "rate_limit_exceeded", Retry_After="1")))
    ended = folder.generate(server, "items=1")
    assert (ended.err, ended.status) == ("", 0)
    assert server.retries == [0, 1]
    assert 1 <= server.times[1] - server.times[0] < 30


LASTING = {
    "500": (error(500, "The server had an error."), "500: The server had an error", "retries=1"),
    "429": (error(429, "Rate limit reached"), "429: Rate limit reached", "retries=0"),
    "time-out": (Reply(seconds=60), "no answer within 1 seconds", "retries=0 timeout=1 concurrency=5"),
    "other JSON": (
        Reply(body={"hello": 1}),
        "nonsense in choices, so that base_url={server} may be wrong",
        "retries=0",
    ),
    "a web page": (
        Reply(body="<html>"),
        "something that is not JSON, so that base_url={server} may be wrong",
        "retries=0",
    ),
    "text": (
        Reply(body={"choices": ["text"]}),
        "nonsense in choices.0, so that base_url={server} may be",
        "retries=0",
    ),
    "half of the JSON": (Reply(body='{"choices": ['), "something that is not JSON", "retries=0"),
    "an error as answer": (Reply(body={"detail": "no model is loaded"}), "200: no model is loaded", "retries=0"),
    "slow": (Reply(endless=b" ", pause=0.2), "no answer within 1 seconds", "retries=0 timeout=1 concurrency=5"),
}


@pytest.mark.parametrize("faults", mark_slow([list(LASTING)[:4], list(LASTING)[4:]], after=1), ids=["some", "others"])
def test_a_lasting_fault_ends_the_run(folder: Folder, serve: Serve, faults: list[str]) -> None:
    for fault in faults:
        reply, why, arguments = LASTING[fault]
        server = serve(always(reply))
        ended = folder.generate(server, "items=20", "concurrency=1", *arguments.split())
        why = why.replace("{server}", server.address)
        assert ended.err.startswith(f"quantexp: The last 5 requests got no answer, retries included ({why}")
        least = 10 if "retries=1" in arguments else 5
        # Of five at once, the first ones that end make room for others.
        assert least <= len(server.asked) < least + (5 if "concurrency=5" in arguments else 1)
        assert ended.err.endswith(f"); mend that or wait, and {GOES_ON}\n")
        assert ended.err.count("\n") == 1
        assert ended.status == 2
        assert folder.lines() == []
    server.answer = good
    assert folder.generate(server, "items=20").status == 0


def test_an_answer_that_makes_no_sense_is_asked_for_again(folder: Folder, serve: Serve) -> None:
    server = serve(first_time(lambda _: Reply(body={"choices": [{"message": "hello"}]})))
    ended = folder.generate(server, "items=1", "retries=1")
    assert (ended.err, ended.status, len(server.asked)) == ("", 0, 2)


def test_a_single_request_without_an_answer_leaves_one_open(folder: Folder, serve: Serve) -> None:
    server = serve(first_time(lambda _: error(500, "Out of luck")))
    ended = folder.generate(server, "items=4", "concurrency=1", "retries=0")
    assert ended.status == 1
    assert "open      mail-0001 (technical, medium): no answer: 500: Out of luck\n" in ended.out
    assert "next      the same command again asks for what is missing\n" in ended.out
    assert [item["id"] for item in folder.lines()] == ["mail-0002", "mail-0003", "mail-0004"]
    assert folder.generate(server, "items=4").status == 0
    assert len(server.asked) == 5
    assert folder.lines()[0]["id"] == "mail-0001"


def test_nothing_listens(folder: Folder) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        ended = folder.generate(None, f"base_url={address}")
    assert ended.err.startswith(f"quantexp: No connection to {address} (")
    assert ended.err.endswith(
        "); start the server, or check base_url and the network, and run the same command again.\n"
    )
    assert ended.status == 2
    assert folder.left_behind() == []
    assert ended.out.endswith("No answer has come.\n")
    assert "every answer is kept" not in ended.out


@pytest.mark.parametrize("before", [False, True])
def test_no_answer_leaves_nothing_behind(folder: Folder, serve: Serve, before: bool) -> None:
    if before:
        (folder.path / "data").mkdir()
    server = serve(lambda _: error(500, "Out of luck"))
    ended = folder.generate(server, "items=2", "retries=0")
    assert (ended.err, ended.status) == ("", 1)
    assert "e-mails   none yet (0 of 2)\n" in ended.out
    assert "records   " not in ended.out
    assert folder.left_behind() == (["data"] if before else [])
    server.answer = lambda _: error(401, "Wrong key")
    ended = folder.generate(server, "items=2")
    assert ended.status == 2
    assert ended.out.endswith("No answer has come.\n")
    assert folder.left_behind() == (["data"] if before else [])


def test_answers_without_an_email_are_kept_and_told(folder: Folder, serve: Serve) -> None:
    answers = iter([cut])
    server = serve(lambda asked: next(answers, lambda _: error(401, "Wrong key"))(asked))
    ended = folder.generate(server, "items=2", "concurrency=1")
    assert ended.status == 2
    assert ended.out.endswith(
        "No e-mail is there yet; every answer is kept in data/extraction.records.jsonl; the same command goes on from "
        "here.\n"
    )
    assert folder.left_behind() == ["data", "data/extraction.records.jsonl"]


@pytest.mark.parametrize(
    "arguments", mark_slow(["items=1,2 -m", "hydra.mode=MULTIRUN", "-m", "--multirun", "--multi"], after=2)
)
def test_several_runs_are_refused_before_anything_is_written(folder: Folder, arguments: str) -> None:
    said = "quantexp: This command does one thing at a time; leave out -m, --multirun and hydra.mode=MULTIRUN.\n"
    for ended in (folder.generate(None, *arguments.split()), folder.review("", "reviewer=Ana", *arguments.split())):
        assert (ended.out, ended.err, ended.status) == ("", said, 2)
    assert folder.left_behind() == []


def test_an_address_that_drops_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantexp.util.openai_client.CONNECTING_SECONDS", 0.5)
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # As many as the system lets wait; it drops the packets of whoever comes after them.
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        address = f"http://127.0.0.1:{full.getsockname()[1]}/v1"

        async def connect() -> None:
            async with Client(GenerateConfig(base_url=address, api_key_variable=None)) as client:
                await client.connect()

        with pytest.raises(UserError) as refused:
            asyncio.run(connect())
    assert str(refused.value) == (
        f"No connection to {address} (no sign of life within 0.5 seconds); start the server, or check base_url and the "
        "network, and run the same command again."
    )


def test_a_server_that_is_busy_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantexp.util.openai_client.CONNECTING_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"

        async def connect() -> None:
            async with Client(GenerateConfig(base_url=address, api_key_variable=None)) as client:
                await client.connect()

        asyncio.run(connect())


@pytest.mark.parametrize(
    "address", mark_slow(["http://[::1", "gopher://127.0.0.1:9", "http://127.0.0.1:99999", "host:abc"], after=2)
)
def test_a_proxy_that_is_none(folder: Folder, address: str) -> None:
    ended = folder.generate(None, ALL_PROXY=address)
    assert ended.err == (
        "quantexp: What the environment variable ALL_PROXY holds is not a proxy's address; set it to one, such as "
        "http://127.0.0.1:8080, or unset it.\n"
    )
    assert ended.status == 2


def test_a_socks_proxy_without_its_package(folder: Folder) -> None:
    (folder.path / "socksio.py").write_text("raise ImportError")  # in case it is installed
    ended = folder.generate(None, ALL_PROXY="socks5://127.0.0.1:9")
    assert ended.err == (
        "quantexp: The environment names a SOCKS proxy (in ALL_PROXY, HTTPS_PROXY or HTTP_PROXY), for which the "
        "package socksio is missing; install it with pip install socksio, or unset the variable.\n"
    )
    assert ended.status == 2


def cut(asked: Asked) -> Reply:
    return Reply(body=completion(asked, json.dumps(email(asked))[:50], "length"))


def test_rejected_answers_are_asked_for_again_and_kept_with_the_reason(folder: Folder, serve: Serve) -> None:
    def other_category(asked: Asked) -> Reply:
        planned = labels(asked)["issue_category"]
        return good(asked, issue_category=next(category for category in CATEGORIES if category != planned))

    faults: list[Callable[[Asked], Reply]] = [
        lambda asked: Reply(body=completion(asked, json.dumps(email(asked))[:50])),
        cut,
        other_category,
        lambda asked: good(asked, email="Hello, I forgot to sign this, and so it is nobody's e-mail at all."),
        lambda asked: Reply(body=completion(asked, "", refusal="I'm sorry, no.")),
        lambda asked: good(asked, requested_action=""),
    ]
    server = serve(lambda asked: faults.pop(0)(asked) if faults else good(asked))
    ended = folder.generate(server, "items=2", "concurrency=1", "attempts=7", "nameless=0")
    assert (ended.err, ended.status) == ("", 0)
    records = folder.lines(".records")
    assert [(record["slot"], record["attempt"]) for record in records] == [*((0, n) for n in range(1, 8)), (1, 1)]
    assert [record["reason"] for record in records] == [
        "not in the schema",
        "truncated",
        "other labels",
        "name",
        "refused",
        "invalid",
        None,
        None,
    ]
    assert records[1]["finish_reason"] == "length"
    assert records[2]["detail"] == "issue_category billing instead of technical"
    assert len({record["request_seed"] for record in records}) == 8
    assert "answers   2 accepted, 6 rejected: not in the schema 1, truncated 1, other labels 1" in ended.out
    assert "this run  8 answers, 800 tokens in, 80 out, price unknown\n" in ended.out
    assert len(folder.lines()) == 2


def test_what_stays_rejected_stays_open_and_the_next_run_goes_on_with_new_seeds(folder: Folder, serve: Serve) -> None:
    same = "I have written this very same e-mail to you for days and weeks, and nobody has ever answered me.\n\nUma Low"

    def repeating(asked: Asked) -> Reply:
        named = labels(asked)["named"]
        return good(asked, email=same, customer_name="Uma Low" if named else None)

    server = serve(repeating)
    ended = folder.generate(server, "items=3", "concurrency=1", "attempts=2")
    assert ended.status == 1
    assert ended.err == ""
    why = "2 answers rejected, the last one: duplicate (similarity 1.00 to mail-0001)"
    assert f"open      mail-0003 (account, high): {why}\n" in ended.out
    assert "answers   1 accepted, 4 rejected: duplicate 4\n" in ended.out
    assert [item["id"] for item in folder.lines()] == ["mail-0001"]
    server.answer = good
    assert folder.generate(server, "items=3").status == 0
    assert [record["attempt"] for record in folder.lines(".records")][-2:] == [3, 3]
    assert len({asked["seed"] for asked in server.asked}) == len(server.asked) == 7
    # More of them keep those that are there.
    three = folder.lines()
    assert folder.generate(server, "items=5").status == 0
    assert folder.lines()[:3] == three
    assert len(server.asked) == 9
    # Fewer of them leave the others in the records; nobody has rejected those.
    ended = folder.generate(server, "items=3")
    assert ended.status == 0
    assert "answers   5 accepted (2 of them beyond items=3), 4 rejected: duplicate 4\n" in ended.out
    assert folder.lines() == three


def stuck_after(answers: int) -> Callable[[Asked], Reply]:
    """Answers some requests well, and lets the others wait."""
    left = [good] * answers
    return lambda asked: left.pop()(asked) if left else Reply(seconds=300)


def test_killed_in_the_middle_it_goes_on_and_loses_nothing(folder: Folder, serve: Serve, forker: Forker) -> None:
    server = serve(stuck_after(7))
    running = folder.begin("generate_extraction", f"base_url={server.address}", "yes=true", "items=20", "timeout=500")
    records = folder.path / "data" / "extraction.records.jsonl"
    server.wait_until(lambda: len(server.asked) == 7 + 4)
    server.wait_until(lambda: len(folder.lines(".records")) == 7)

    second = folder.generate(server, "items=20")
    assert second.err == (
        "quantexp: Another command is writing to data/extraction.records.jsonl; wait until it has ended, or choose "
        "another out=FILE.\n"
    )
    assert second.status == 2

    running.send_signal(signal.SIGKILL)
    running.communicate(60)
    assert len(server.asked) == 11
    torn = records.read_text().splitlines()[-1][:100]
    records.write_text(records.read_text() + torn)
    server.answer = good
    ended = folder.generate(server, "items=20")
    assert ended.status == 0
    assert ended.out.startswith(
        "1 line of data/extraction.records.jsonl cannot be read, as after a crash, and will be passed over.\n"
        "13 e-mails to make; 7 of 20 are in data/extraction.jsonl.\n"
    )
    assert len(server.asked) == 11 + 13
    assert len(folder.lines()) == 20

    undisturbed = Folder(folder.path / "undisturbed", forker)
    undisturbed.path.mkdir()
    undisturbed.generate(server, "items=20")
    assert undisturbed.lines() == folder.lines()


def test_interrupted_it_keeps_everything(folder: Folder, serve: Serve) -> None:
    server = serve(stuck_after(3))
    running = folder.begin("generate_extraction", f"base_url={server.address}", "yes=true", "items=9", "timeout=500")
    server.wait_until(lambda: len(folder.lines(".records")) == 3 and len(server.asked) == 7)
    running.send_signal(signal.SIGINT)
    status, out, err = running.communicate(60)
    assert err == "quantexp: interrupted.\n"
    assert status == 128 + signal.SIGINT
    assert out.endswith(
        "3 of 9 e-mails are in data/extraction.jsonl, and every answer is kept; the same command goes on from here.\n"
    )
    assert len(folder.lines()) == 3


def test_a_full_disk_keeps_what_was_received(folder: Folder, serve: Serve) -> None:
    server = serve()
    command = ["sh", "-c", 'ulimit -f 8; exec "$@"', "-", sys.executable, "-m", "quantexp.generate_extraction"]
    ended = folder.start_as([*command, f"base_url={server.address}", "yes=true", "items=20", "concurrency=1"]).end()
    assert ended.err == (
        "quantexp: data/extraction.records.jsonl cannot be written: File too large; mend that, and run the same "
        "command again, which goes on from here.\n"
    )
    assert ended.status == 2
    made = len(server.asked) - 1
    assert 0 < made < 19
    assert len(folder.lines()) == made
    assert folder.generate(server, "items=20").status == 0
    assert len(server.asked) == 1 + 20
    assert len(folder.lines()) == 20


def test_other_settings_need_another_file(folder: Folder, serve: Serve) -> None:
    server = serve()
    folder.generate(server, "items=1")
    for arguments, made_with in (
        ("model.name=gpt-4o", "model.name=gpt-4o-mini"),
        ("seed=1", "seed=0"),
        ("temperature=null", "temperature=1.0"),
        ("nameless=0.5", "nameless=0.15"),
    ):
        ended = folder.generate(server, "items=2", arguments)
        assert ended.err == (
            f"quantexp: data/extraction.records.jsonl was made with {made_with}, not {arguments}; give that again, or "
            "choose another out=FILE.\n"
        )
        assert ended.status == 2
    assert folder.generate(server, "items=2", "nameless=0.5", "out=data/other.jsonl").status == 0
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"prompt_version": "0"},
            "was made with version 0 of the prompt, now it is 1 (task 1); choose another out=FILE.",
        ),
        (
            {"prompt_sha256": "0"},
            "was made with another prompt: that of mail-0001 has changed since, though not its version;",
        ),
    ],
)
def test_another_prompt_needs_another_file(folder: Folder, serve: Serve, change: dict[str, str], said: str) -> None:
    server = serve()
    folder.generate(server, "items=1")
    (record,) = folder.lines(".records")
    (folder.path / "data/extraction.records.jsonl").write_text(json.dumps(record | change) + "\n")
    ended = folder.generate(server, "items=2")
    assert ended.err.startswith(f"quantexp: data/extraction.records.jsonl {said}")
    assert ended.status == 2
    assert len(server.asked) == 1


def test_a_file_that_was_changed_by_hand_is_not_overwritten(folder: Folder, serve: Serve) -> None:
    server = serve()
    folder.generate(server, "items=2")
    path = folder.path / "data" / "extraction.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{second.replace('Look into it.', 'Refund it.')}\n")
    ended = folder.generate(server, "items=3")
    assert ended.err == (
        "quantexp: data/extraction.jsonl, line 2, is not from data/extraction.records.jsonl, and would be lost; move "
        "the file away, or choose another out=FILE.\n"
    )
    assert ended.status == 2
    assert "Refund it." in path.read_text()
    path.unlink()
    assert folder.generate(server, "items=3").status == 0
    assert len(server.asked) == 3


def test_the_key_is_sent_and_is_nowhere_else(folder: Folder, serve: Serve) -> None:
    server = serve()
    # The server repeats the key in its error, as some do.
    server.answer = lambda asked: good(asked) if len(server.asked) == 1 else error(401, f"Bad key {KEY}")
    ended = folder.generate(server, "items=3", "concurrency=1")
    assert ended.status == 2
    assert server.keys == {f"Bearer {KEY}"}
    assert KEY not in ended.out + ended.err
    assert len(folder.lines(".records")) == 1
    for path in folder.path.rglob("*"):
        assert path.is_dir() or KEY not in path.read_text()
