"""No secret reaches a file or a screen, whatever fails: every file that a command writes is searched."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.openai_server import Asked, OpenAIServer, Reply, chat, error, models

from quantexp.util.redaction import find_secret, hide_secrets, is_secret_name, is_variable_name

Command = Callable[..., tuple[int, str, str]]

SECRETS = {
    "MY_KEY": "sk-of-the-server-1",
    "OPENAI_API_KEY": "sk-of-another-server-2",
    "HF_TOKEN": "hf_OfTheHub3",
    "MLFLOW_TRACKING_PASSWORD": "of-mlflow-4",
    "MLFLOW_TRACKING_TOKEN": "of-mlflow-5",
    "HTTPS_PROXY": "http://somebody:of-the-proxy-6@127.0.0.1:9",
    "HF_ENDPOINT": "http://somebody:of-the-hub-7@127.0.0.1:9",
    "AWS_SECRET_ACCESS_KEY": "of-the-storage-8",
}
WORDS = [value.partition("somebody:")[2].partition("@")[0] or value for value in SECRETS.values()]

QUICK = ("task=triviaqa", "task.limit=2", "task.shots=1", "stats.resamples=50", "engine=openai", "model=server")
ONE = (*QUICK, "model.name=m", "quant=awq", "quant.bits_per_weight=4.25", "engine.retries=0")


def found_in(folder: Path, *texts: str) -> list[str]:
    """Where one of the secrets stands."""
    files = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files |= {f"output {number}": text.encode() for number, text in enumerate(texts)}
    return [f"{word} in {name}" for name, content in files.items() for word in WORDS if word.encode() in content]


def test_a_sweep_leaves_no_secret_anywhere(command: Command, tmp_path: Path) -> None:
    echo = " ".join(WORDS)

    def answer(asked: Asked) -> Reply:
        return chat("Paris", system_fingerprint=None) if good else error(400, f"I was sent {echo}")

    sweep = ("-m", *ONE, f"model.cache={tmp_path}", "engine.api_key_variable=MY_KEY", "hydra.verbose=true")
    with OpenAIServer(answer, pages=models("m")) as server:
        for good in (False, True):
            status, out, err = command(
                tmp_path, "quantexp", *sweep, f"engine.url={server.address}", environment=SECRETS
            )
            assert (status == 0) is good, err
            assert found_in(tmp_path, out, err) == []
            assert good or "does not accept the request (400: I was sent *** ***" in err
        assert server.keys == {f"Bearer {SECRETS['MY_KEY']}"}
    assert (tmp_path / "mlruns" / "mlflow.db").is_file()


def test_a_placeholder_for_a_key_hides_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "ollama")
    monkeypatch.setenv("OTHER_API_KEY", "abc123-secret")
    assert hide_secrets("at http://ollama:11434/v1 with abc123-secret") == "at http://ollama:11434/v1 with ***"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["engine.url=http://127.0.0.1:9/v1", "engine.extra_body={api_key: sk-of-the-server-1}"],
            "engine.extra_body.api_key looks like a secret, and the configuration is recorded with every run: put the "
            "key in an environment variable and name that with engine.api_key_variable=NAME",
        ),
        (
            ["engine.url=http://127.0.0.1:9/v1", "engine.extra_body={headers: [{x: Bearer sk-of-the-server-1}]}"],
            "engine.extra_body.headers.0.x looks like a secret",
        ),
        (
            ["engine.url=http://127.0.0.1:9/v1", "engine.extra_body.user=${oc.env:MLFLOW_TRACKING_PASSWORD}"],
            "engine.extra_body.user looks like a secret",
        ),
        (
            ["engine.url=http://127.0.0.1:9/v1", "engine.api_key_variable=sk-of-the-server-1"],
            "engine.api_key_variable is to be the name of an environment variable that holds the key, not the key",
        ),
        (["engine.url=http://somebody:of-the-proxy-6@127.0.0.1:9/v1"], "engine.url may hold no password"),
        (["engine.url='http://127.0.0.1:9/v1?key=of-the-proxy-6'"], "engine.url may hold no password and no query"),
        (
            [
                "engine.url=http://127.0.0.1:9/v1",
                "tracking=server",
                "tracking.uri=http://somebody:of-mlflow-4@127.0.0.1",
            ],
            "tracking.uri holds more than an address",
        ),
    ],
    ids=["extra_body", "nested", "from the environment", "variable", "password", "query", "tracking"],
)
def test_a_secret_in_the_configuration_is_refused_and_not_written(
    command: Command, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    status, out, err = command(tmp_path, "quantexp", "-m", *ONE, *arguments, environment=SECRETS)
    assert status == 2
    assert err.startswith(f"quantexp: {sentence}")
    assert err.count("\n") == 1
    assert found_in(tmp_path, out, err) == []


@pytest.mark.parametrize(
    "endpoint",
    ["http://somebody:of-the-hub-7@127.0.0.1:9", "somebody:of-the-hub-7@127.0.0.1", "ftp://somebody:of-the-hub-7@x"],
)
def test_the_password_of_a_hub_is_not_shown(command: Command, tmp_path: Path, endpoint: str) -> None:
    job = ("task=triviaqa", "data=files", "model=hub", "model.repository=a/b", "quant=Q8_0", "model.name=m")
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"id": "a", "question": "b", "aliases": ["c"]}))
    environment = SECRETS | {"HF_ENDPOINT": endpoint}
    status, out, err = command(tmp_path, "quantexp", *job, f"data.path={data}", environment=environment)
    assert status == 2, err
    assert "HF_ENDPOINT" in err or "The Hub at http://127.0.0.1:9" in err
    assert found_in(tmp_path, out, err) == []


# Names and values


SECRET = """
api_key apiKey API-KEY x-api-key token auth_token hf_token password db_passwd secret client_secret authorization
Authorization bearer cookie credentials accessKey private_key session_token auth jwt passphrase
"""

HARMLESS = """
max_tokens min_tokens stop_token_ids skip_special_tokens return_token_ids ban_eos_token add_bos_token token_healing
author prompt_cache_key top_k repeat_penalty chat_template_kwargs thinking_budget_tokens banned_tokens key
"""


@pytest.mark.parametrize("name", SECRET.split())
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", HARMLESS.split())
def test_names_of_what_is_none(name: str) -> None:
    assert not is_secret_name(name)


def test_values_are_looked_through() -> None:
    assert find_secret({"a": [{"b": 1}, {"token": "x"}]}) == "a.1.token"
    assert find_secret({"a": ["http://u:p@host"]}) == "a.0"
    assert find_secret({"a": "Bearer abcdefghijk"}) == "a"
    assert find_secret({"chat_template_kwargs": {"enable_thinking": False}, "stop": ["\n"], "token": None}) is None
    assert is_variable_name("MY_KEY")
    assert not any(is_variable_name(each) for each in ("sk-abc", "", "1A", "A B", "hf_abcdefghijklmn", "$A"))


def test_addresses_keep_all_but_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_PASSWORD", "hidden-one")
    shown = hide_secrets("at http://u:p@host:1/a?api-key=k1&b=2&X-Amz-Signature=s2#c with hidden-one, me@example.org")
    assert shown == "at http://***@host:1/a?api-key=***&b=2&X-Amz-Signature=***#c with ***, me@example.org"


@given(st.text(alphabet="ab:/@?&=.# ", max_size=60))
def test_hiding_twice_changes_nothing_more(text: str) -> None:
    assert hide_secrets(hide_secrets(text)) == hide_secrets(text)
