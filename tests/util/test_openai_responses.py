"""Whatever a server sends is an answer, or nonsense, or a refusal in the server's words."""

import asyncio
import copy
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.openai_server import OpenAIServer, Reply, chat, error, models

from quantexp.config import EngineConfig, ModelConfig
from quantexp.config.emails import GenerateConfig, WriterConfig
from quantexp.engines.base import Decoding, Prompt
from quantexp.engines.openai.engine import OpenAIServer as Engine
from quantexp.engines.openai.responses import read_answer
from quantexp.models import ModelFile
from quantexp.store import Completion
from quantexp.store.segments import decode, encode
from quantexp.tasks.emails.client import Client
from quantexp.tasks.emails.plan import email_plan
from quantexp.tasks.tool_calls.reading import read_calls
from quantexp.util.errors import UserError
from quantexp.util.openai_client import NoAnswerError, NonsenseError
from quantexp.util.openai_responses import find_refusal, read_refusal
from quantexp.util.terminal import printable


def completion(choice: dict[str, Any], usage: Any = None) -> dict[str, Any]:
    return {"choices": [choice], **({} if usage is None else {"usage": usage})}


def read(body: object, longest: int = 8, *, logprobs: bool = True) -> Completion:
    return read_answer(body, longest, logprobs=logprobs)[0]


# Calls of tools

CALLS = [
    {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": [1, "\\ud800"]}'}},
    {"id": "2", "type": "function", "function": {"name": "g", "arguments": "{broken"}},
]


def test_calls_of_tools_that_were_sent_are_the_answer() -> None:
    body = completion({"message": {"content": None, "tool_calls": CALLS}, "finish_reason": "tool_calls"})
    with pytest.raises(UserError, match="called a tool instead of answering"):
        read(body)
    answer, _ = read_answer(body, 8, logprobs=False, has_tools=True)
    assert answer.finish_reason == "stop"
    calls = read_calls(answer.text).calls
    assert [(call.name, [*call.arguments]) for call in calls] == [("f", ["x"]), ("g", [""])]
    spoken = {"message": {"content": "I look.", "tool_calls": CALLS[:1]}, "finish_reason": "stop"}
    answer, _ = read_answer(completion(spoken), 8, logprobs=False, has_tools=True)
    assert answer.text.startswith("I look.\n<tool_call>\n")


@pytest.mark.parametrize("calls", [[{}], [{"function": {"arguments": "{}"}}], {"f": 1}, "f"])
def test_calls_without_the_name_of_a_function_are_nonsense(calls: object) -> None:
    body = completion({"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"})
    with pytest.raises(NonsenseError, match="a call of a tool without the name of a function"):
        read_answer(body, 8, logprobs=False, has_tools=True)


# Answers of servers in use


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("eos_token", "stop"),  # TGI
        ("stop_sequence", "stop"),
        ("end_turn", "stop"),  # Anthropic
        ("COMPLETE", "stop"),  # Cohere
        ("eosFound", "stop"),  # LM Studio
        ("length", "length"),
        ("max_tokens", "length"),
        ("maxPredictedTokensReached", "length"),
        ("model_length", "length"),  # Mistral
        ("tool_calls", "stop"),  # beside a text, and without a call
        (None, "stop"),
        ("", "stop"),
    ],
)
def test_ends_of_answers(said: str | None, reason: str) -> None:
    choice = {"message": {"content": "4"}, "finish_reason": said}
    assert read(completion(choice, {"prompt_tokens": 9, "completion_tokens": 2})).finish_reason == reason


def test_an_answer_whose_end_is_not_told_is_cut_where_it_is_as_long_as_allowed() -> None:
    choice = {"message": {"content": "4"}, "finish_reason": None}
    assert read(completion(choice, {"completion_tokens": 8})).finish_reason == "length"
    assert read(completion({"message": {"content": "4"}})).finish_reason == "stop"


def test_an_answer_without_usage_has_as_many_tokens_as_log_probabilities() -> None:
    choice = {"message": {"content": "4"}, "finish_reason": "stop"}
    assert read(completion(choice)).counted == (0, 0)
    logprobs = {"content": [{"logprob": -1}, {"logprob": -0.5}]}
    assert read(completion(choice | {"logprobs": logprobs})).counted == (0, 2)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]}, "42"),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "?"}]}, {"text": "4"}]}, "4"),
        ({"content": "4", "reasoning_content": "2 + 2"}, "4"),
        ({"content": None, "refusal": "I cannot."}, "I cannot."),
        ({"content": "a\ud800"}, "a\\ud800"),
    ],
    ids=["parts", "parts with thoughts", "thoughts beside", "refusal", "half a character"],
)
def test_texts_of_answers(message: dict[str, Any], text: str) -> None:
    assert read(completion({"message": message, "finish_reason": "stop"})).text == text


@pytest.mark.parametrize(
    "message",
    [
        {"content": "", "reasoning_content": "2 + 2"},
        {"content": None, "reasoning": "2 + 2"},
        {"content": [{"type": "thinking", "thinking": "2 + 2"}]},
    ],
    ids=["reasoning_content", "reasoning", "part"],
)
@pytest.mark.parametrize("reason", ["stop", "length"])
def test_reasoning_without_an_answer_is_an_outcome(message: dict[str, Any], reason: str) -> None:
    ended = read(completion({"message": message, "finish_reason": reason}))
    assert (ended.text, ended.finish_reason, ended.reasoning) == ("", reason, "2 + 2")


def test_reasoning_beside_an_answer_is_kept_apart() -> None:
    for message in (
        {"content": "4", "reasoning_content": "2 + 2"},
        {"content": "4", "reasoning": "2 + 2"},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "2 + 2"}]},
                {"type": "text", "text": "4"},
            ]
        },
    ):
        answer = read(completion({"message": message, "finish_reason": "stop"}))
        assert (answer.text, answer.reasoning) == ("4", "2 + 2")


@pytest.mark.parametrize(
    "given",
    [
        5,
        {"content": 5},
        {"content": [5]},
        {"content": [{"logprob": True}]},
        *({"content": [{"logprob": value}]} for value in (-(10**400), 10**400, 1.0, float("nan"), float("-inf"), "x")),
        {"token_logprobs": [-1.0, 0.5]},
        {"token_logprobs": {}},
    ],
    ids=lambda value: repr(value)[:50],
)
def test_nonsense_in_log_probabilities_is_named_where_they_were_asked_for(given: object) -> None:
    body = completion({"message": {"content": "4"}, "finish_reason": "stop", "logprobs": given})
    assert read(body, logprobs=False).logprobs == ()
    with pytest.raises(NonsenseError, match=r"^nonsense in choices\.0\.logprobs"):
        read(body)


def test_a_log_probability_that_is_missing_leaves_none_and_one_that_is_rounded_is_0() -> None:
    choice = {"text": "4", "finish_reason": "stop"}
    assert read(completion(choice | {"logprobs": {"token_logprobs": [None, -1.0]}})).logprobs == ()
    least = read(completion(choice | {"logprobs": {"content": [{"logprob": -3.4028234663852886e38}]}})).logprobs
    assert np.isfinite(np.float32(least[0]))  # llama-server's log-probability of what is impossible
    assert read(completion(choice | {"logprobs": {"content": [{"logprob": 1e-7}, {"logprob": -1}]}})).logprobs == (
        0,
        -1,
    )


# Anything at all

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**45), 10**45)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["stop", "length", "eos", "text", "-1e400", "\ud800", 10**400]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "error", "detail", "code", "type", "text", "logprob"])
            | st.text(max_size=3),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)

WHOLE = chat(logprobs={"content": [{"logprob": -0.5}], "token_logprobs": [-0.5]}).body


def places(tree: object, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [at, *(place for key, value in pairs for place in places(value, (*at, key)))]


@st.composite
def bodies(draw: st.DrawFn) -> Any:
    """A completion in which some places hold anything."""
    body: Any = {"": copy.deepcopy(WHOLE)}
    for place in draw(st.lists(st.sampled_from(places(WHOLE)), min_size=1, max_size=3)):
        inner = body
        try:
            for key in ("", *place)[:-1]:
                inner = inner[key]
            inner[("", *place)[-1]] = draw(JSON)
        except (LookupError, TypeError):
            continue  # an earlier change has removed it
    return body[""]


@given(bodies(), st.booleans())
@settings(max_examples=100)
def test_any_json_is_an_answer_that_can_be_stored_or_is_named(body: Any, logprobs: bool) -> None:
    try:
        found = read(body, logprobs=logprobs)
    except (NonsenseError, UserError):
        return
    assert decode(encode(bytes(32), found, {}))[1] == found
    assert found.finish_reason in ("stop", "length")


@given(JSON | bodies(), st.sampled_from([200, 400, 404, 429, 500]))
@settings(max_examples=60)
def test_any_json_is_read_as_an_error(body: Any, status: int) -> None:
    content = json.dumps(body).encode()
    found = read_refusal(status, content)
    assert found.status == status
    assert isinstance(found.is_too_long or found.is_without_money, bool)
    as_answer = find_refusal(content)
    assert as_answer is None or as_answer.status == 200 or 400 <= as_answer.status < 600


def test_any_body_ends_in_an_answer_or_in_one_sentence() -> None:
    replies: list[Reply] = []
    file = ModelFile("", "not known: awq of m", 0, 0, 4.25, "awq", "not known", 0)
    prompt = Prompt("a", "a", (), 0, 0, ({"role": "user", "content": "a"},))
    with OpenAIServer(lambda asked: replies[-1] if replies else chat(), pages=models("m")) as server:
        engine = Engine(file, ModelConfig("m", "server"), EngineConfig("openai", url=server.address, retries=0))

        @given(
            st.sampled_from([200, 201, 204, 302, 400, 418, 429, 500, 599]),
            (JSON | bodies()).map(json.dumps) | st.binary(max_size=20) | st.just("[" * 50_000),
        )
        @settings(max_examples=50)
        def ask(status: int, body: Any) -> None:
            # No status 204 with a body: the bytes would belong to the next answer.
            replies.append(Reply(status, b"" if status == 204 else body))
            try:
                [(_, found)] = engine.complete([prompt], Decoding(8))
                assert found.finish_reason in ("stop", "length", "context")
            except UserError as problem:
                sentence = str(problem)
                assert printable(sentence) == sentence
                assert "\n" not in sentence
                assert len(sentence) < 600

        try:
            ask()
        finally:
            engine.close()


def test_the_writer_of_emails_goes_through_the_same_door() -> None:
    async def ask(reply: Reply) -> object:
        with OpenAIServer(lambda asked: reply) as server:
            config = GenerateConfig(
                model=WriterConfig("m"), base_url=server.address, retries=0, api_key_variable=None, timeout=0.5
            )
            async with Client(config) as client:
                return await client.ask(email_plan(0, 0, 0.15), 1)

    for reply, why in (
        (chat(choices=["text"]), r"^nonsense in choices\.0, so that base_url="),
        (chat(usage={"prompt_tokens": True}), r"^nonsense in usage\.prompt_tokens, so"),
        (Reply(body={"detail": "no luck"}), r"^200: no luck$"),
        (Reply(endless=b" ", pause=0.1), r"^no answer within 0\.5 seconds$"),
        (Reply(endless=b" " * 2**20), r"^an answer of more than 16 MiB$"),
        (error(500, "oh", code=[1]), r"^500: oh$"),
    ):
        with pytest.raises(NoAnswerError, match=why):
            asyncio.run(ask(reply))


# Prompts that are too long

TOO_LONG = {
    "llama-server": {
        "error": {
            "code": 400,
            "message": "request (9 tokens) exceeds the available context size (8 tokens), try increasing it",
            "type": "exceed_context_size_error",
        }
    },
    "llama-server, earlier": {
        "error": {"code": 500, "message": "the request exceeds the available context size. try increasing it"}
    },
    "llama_cpp.server": {"error": {"message": "Requested tokens (2285) exceed context window of 2048", "code": None}},
    "OpenAI": {"error": {"message": "too many", "code": "context_length_exceeded"}},
    "vLLM": {
        "object": "error",
        "message": "This model's maximum context length is 9 tokens. However, you ...",
        "code": 400,
    },
    "vLLM, one engine": {
        "error": {"message": "The decoder prompt (length 9) is longer than the maximum model length of 8."}
    },
    "vLLM, images": {"message": "The prompt (total length 9) is too long to fit into the model (context length 8)."},
    "SGLang": {
        "object": "error",
        "message": "The input (9 tokens) is longer than the model's context length (8 tokens).",
    },
    "SGLang, answer": {"message": "Requested token count exceeds the model's maximum context length of 8 tokens."},
    "SGLang, memory": {"message": "Input length (9 tokens) exceeds the maximum allowed length (8 tokens)."},
    "TabbyAPI": {
        "detail": {"error": {"message": "Request length 9 + 8 is greater than max_seq_len 16", "trace": "..."}}
    },
    "TabbyAPI, cache": {
        "error": {
            "message": "Job requires 33 pages (only 32 available) and cannot be enqueued. Total cache allocated is"
        }
    },
    "LM Studio": {
        "error": "Trying to keep the first 9 tokens when context the overflows. However, the model is loaded ..."
    },
    "LM Studio, later": {
        "error": "The number of tokens to keep from the initial prompt is greater than the context length "
    },
    "TGI": {
        "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8.",
        "error_type": "validation",
    },
    "TGI, prompt": {"error": "Input validation error: `inputs` must have less than 8 tokens. Given: 9"},
    "Ollama": {"error": {"message": "prompt too long; exceeded max context length by 9 tokens", "type": "api_error"}},
    "Ollama, input": {"error": {"message": "the input length exceeds the context length"}},
    "Mistral": {
        "message": "Prompt contains 9 tokens and 0 draft tokens, too large for model with 8 maximum context length"
    },
}


@pytest.mark.parametrize("body", TOO_LONG.values(), ids=TOO_LONG.keys())
def test_servers_say_that_a_prompt_is_too_long(body: dict[str, Any]) -> None:
    assert read_refusal(400, json.dumps(body).encode()).is_too_long


@pytest.mark.parametrize(
    "words",
    [
        "Rate limit reached for tokens per min",
        "'max_tokens' must be at least 1",
        "The model's context is lost",
        "string too long for field user",
    ],
)
def test_other_refusals_are_not_of_length(words: str) -> None:
    assert not read_refusal(400, json.dumps({"error": {"message": words}}).encode()).is_too_long


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"error": {"message": "a"}}', "a"),
        (b'{"error": "a"}', "a"),
        (b'{"detail": "a"}', "a"),
        (b'{"detail": [{"loc": ["body", "seed"], "msg": "a"}, {"msg": "b"}]}', "body.seed: a; b"),
        (b'{"message": "a"}', "a"),
        (b'{"errors": [{"message": "a"}]}', "a"),
        (b'"a"', "a"),
        (b"a", "a"),
        (b"<html>a</html>", ""),
        (b"[" * 100_000, "[" * 1000),
        (b"{}", ""),
        (b"", ""),
    ],
)
def test_the_servers_own_words(content: bytes, words: str) -> None:
    assert read_refusal(500, content).words == words
