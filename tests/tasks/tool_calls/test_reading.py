"""Calls of functions in the dialects of the models in use, and in texts that make none."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.evaluation.answers import get_reader
from quantexp.tasks.reasoning import Output, find_marks, get_format
from quantexp.tasks.tool_calls.reading import Call, read_calls

CITY = Call("get_weather", {"city": "Rome"})
BOTH = (CITY, Call("get_time", {"zone": "CET", "days": 2}))
JSON = '{"name": "get_weather", "arguments": {"city": "Rome"}}'
SECOND = '{"name": "get_time", "arguments": {"zone": "CET", "days": 2}}'
PARAMETERS = JSON.replace("arguments", "parameters")


@pytest.mark.parametrize(
    ("answer", "calls", "rule"),
    [
        (f"<tool_call>\n{JSON}\n</tool_call>", (CITY,), "tags"),
        (f"I look it up.\n<tool_call>{JSON}</tool_call>\n<tool_call>{SECOND}</tool_call>", BOTH, "tags"),
        (f"<tool_call>\n{JSON}", (CITY,), "tags"),
        (f"<|tool_call|>[{JSON}, {SECOND}]<|/tool_call|>", BOTH, "tags"),
        ('<|tool_call_start|>[get_weather(city="Rome")]<|tool_call_end|>', (CITY,), "tags"),
        (
            "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n</function>\n</tool_call>",
            (CITY,),
            "tags",
        ),
        ('<function=get_weather>{"city": "Rome"}</function>', (CITY,), "functions"),
        (JSON, (CITY,), "json"),
        (PARAMETERS, (CITY,), "json"),
        (f"<|python_tag|>{PARAMETERS}", (CITY,), "json"),
        (f"{PARAMETERS}; {SECOND}", BOTH, "json"),
        (f"{JSON}\n{SECOND}", BOTH, "json"),
        (f"[TOOL_CALLS][{JSON}, {SECOND}]", BOTH, "json"),
        (f" [{JSON}]", (CITY,), "json"),
        (json.dumps([{"type": "function", "function": json.loads(JSON)}]), (CITY,), "json"),
        (json.dumps({"tool_calls": [{"name": "get_weather", "arguments": '{"city": "Rome"}'}]}), (CITY,), "json"),
        ('[{"tool_name": "get_weather", "parameters": {"city": "Rome"}}]', (CITY,), "json"),
        ('[TOOL_CALLS]get_weather[CALL_ID]a1[ARGS]{"city": "Rome"}', (CITY,), "names"),
        ('get_weather{"city": "Rome"}get_time{"zone": "CET", "days": 2}', BOTH, "names"),
        ("[get_weather(city=\"Rome\"), get_time(zone='CET', days=2)]", BOTH, "python"),
        ('get_weather(city="Rome")\nget_time(zone="CET", days=2)', BOTH, "python"),
        (f"```json\n{JSON}\n```", (CITY,), "fence"),
        (f"Here it is:\n```\n[{JSON}, {SECOND}]\n```\nDone.", BOTH, "fence"),
        ('```tool_code\nget_weather(city="Rome")\n```', (CITY,), "fence"),
        (f"The call is {JSON}, I think.", (CITY,), "inside text"),
        (f"{JSON}\nThis will tell you the weather.", (CITY,), "inside text"),
        ('to=functions.get_weather json {"city": "Rome"}', (CITY,), "harmony"),
        ('{"name": "functions.get_weather", "arguments": {"city": "Rome"}}', (CITY,), "json"),
        ('{"name": "now"}', (Call("now", {}),), "json"),
        ("a.b(x=[1, -2.5, {'y': (true, None)}])", (Call("a.b", {"x": [1, -2.5, {"y": [True, None]}]}),), "python"),
    ],
)
def test_dialects(answer: str, calls: tuple[Call, ...], rule: str) -> None:
    reading = read_calls(answer)
    assert (reading.calls, reading.rule) == (calls, rule)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "[]",
        "I cannot do that with the functions that I have.",
        "Call get_weather(city='Rome') to see it.",
        '{"city": "Rome"}',
        '["get_weather"]',
        '{"name": "Lena", "age": 41}',
        "[1, 2]",
        "get_weather",
        "get_weather('Rome')",
        "get_weather(city=",
        "```python\nprint('hello')\n```",
        '{"name": "get_weather", "arguments": [1]}',
        "<tool_call></tool_call>",
    ],
)
def test_what_makes_no_call(answer: str) -> None:
    assert read_calls(answer).calls == ()


def test_harmony_calls_are_answers() -> None:
    form = get_format("harmony")
    assert form is not None
    reader = get_reader("harmony")
    assert reader.id == "harmony-v2"

    def read(text: str) -> tuple[str, str, bool]:
        answer = reader.read(Output(text, find_marks(text, form.marks)), is_cut=False)
        return answer.reasoning, answer.text, answer.ended_in_reasoning

    thought = "<|channel|>analysis<|message|>I need it.<|end|><|start|>assistant"
    called = 'to=functions.get_weather {"city": "Rome"}'
    for header in (
        "<|channel|>commentary to=functions.get_weather <|constrain|>json",
        " to=functions.get_weather<|channel|>commentary json",
    ):
        found = read(f'{thought}{header}<|message|>{{"city": "Rome"}}<|call|>')
        assert found == ("I need it.", called, False)
        assert read_calls(found[1]).calls == (CITY,)
    alone = read(' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Rome"}<|call|>')
    assert alone[1:] == (called, False)
    assert read(f"{thought}<|channel|>commentary<|message|>Now I call.<|end|>")[2]
    assert read(f"{thought}<|channel|>final<|message|>No function fits.<|return|>")[1:] == ("No function fits.", False)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.text("ab \"'\\é\n", max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xy", min_size=1, max_size=2), inner, max_size=2)
    ),
    max_leaves=5,
)
NAMES = st.sampled_from(["f", "get_it", "a.b", "g2"])


@given(st.lists(st.tuples(NAMES, st.dictionaries(st.sampled_from(["x", "y"]), VALUES)), min_size=1, max_size=4))
def test_calls_come_back_from_every_dialect(made: list[tuple[str, dict[str, Any]]]) -> None:
    calls = tuple(Call(name, arguments) for name, arguments in made)
    shown = [json.dumps({"name": call.name, "arguments": call.arguments}) for call in calls]
    python = [f"{each.name}({', '.join(f'{k}={v!r}' for k, v in each.arguments.items())})" for each in calls]
    written = (
        "\n".join(shown),
        f"[{', '.join(shown)}]",
        "".join(f"<tool_call>\n{each}\n</tool_call>\n" for each in shown),
        f"```json\n[{', '.join(shown)}]\n```",
        f"[{', '.join(python)}]",
        "".join(f"{each.name}[ARGS]{json.dumps(each.arguments)}" for each in calls),
    )
    for text in written:
        assert read_calls(text).calls == calls, text


@given(st.text() | st.text("<tool_call>{}[]\"':,=()fx1 \n", max_size=60))
def test_any_text_can_be_read(answer: str) -> None:
    reading = read_calls(answer)
    assert (reading.rule is None) == (reading.calls == ())


@pytest.mark.parametrize(
    "unit",
    [
        "<tool_call>",
        '{"',
        "[{",
        "f(",
        "f(x=1)\n",
        "```\n",
        "to=functions.f ",
        "[ARGS]",
        f"{JSON} ",
        "-",
        "(",
        "f{",
        "a.",
    ],
)
def test_time_grows_with_the_text_and_not_with_its_square(unit: str) -> None:
    started = time.process_time()
    read_calls("x=" + unit * (20_000 // len(unit)))
    read_calls(unit * (20_000 // len(unit)))
    assert time.process_time() - started < 1
