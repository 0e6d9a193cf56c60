"""The words a model reads: where examples stand, what is shared, what identifies a prompt."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp import models
from quantexp.config import DataConfig, EngineConfig, ExamplePlace, ModelConfig, PromptConfig, QuantConfig, TaskConfig
from quantexp.engines.chat_template import ChatTemplate
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.evaluation.prompts import Prompter
from quantexp.tasks import get_task
from quantexp.tasks.data import load
from quantexp.tasks.items import Item
from quantexp.util.errors import UserError

TASK = get_task("triviaqa")
DATA = load(DataConfig("bundled"), TASK)
EXAMPLES = (
    Item("e1", {"question": "Capital of Italy?", "aliases": ["Rome", "Roma"]}, None),
    Item("e2", {"question": "Two plus two?", "aliases": ["4"]}, None),
)
ITEM = Item("i", {"question": "Capital of Peru?", "aliases": ["Lima"]}, None)
HEAD = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"


def prompter(engine: LlamaCpp, *, shots: int = 0, place: str = "turns", **words: Any) -> Prompter:
    prompt = PromptConfig(version=1, instructions="Be brief.", item="Question: {question}", answer="Answer:")
    prompt = replace(prompt, **words)
    config = TaskConfig(name="triviaqa", prompt=prompt, grader="triviaqa", max_tokens=8, shots=shots)
    model = ModelConfig(name="demo", source="package", examples=ExamplePlace[place])
    return Prompter(TASK, config, model, EXAMPLES, engine)


def test_without_examples(engine: LlamaCpp) -> None:
    for place in ("turns", "answer"):
        made = prompter(engine, place=place)
        assert made.prompt(ITEM).text == (
            f"{HEAD}<|im_start|>user\nBe brief.\n\nQuestion: Capital of Peru?<|im_end|>\n<|im_start|>assistant\n"
        )
        assert made.decoding.stop == ()


def test_examples_as_turns(engine: LlamaCpp) -> None:
    made = prompter(engine, shots=2)
    assert made.prompt(ITEM).text == (
        f"{HEAD}<|im_start|>user\nBe brief.\n\nQuestion: Capital of Italy?<|im_end|>\n"
        "<|im_start|>assistant\nRome<|im_end|>\n"
        "<|im_start|>user\nQuestion: Two plus two?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
        "<|im_start|>user\nQuestion: Capital of Peru?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert made.decoding.stop == ()


def test_examples_in_the_answer(engine: LlamaCpp) -> None:
    made = prompter(engine, shots=2, place="answer")
    assert made.prompt(ITEM).text == (
        f"{HEAD}<|im_start|>user\nBe brief.<|im_end|>\n<|im_start|>assistant\n"
        "Question: Capital of Italy?\nAnswer: Rome\n\n"
        "Question: Two plus two?\nAnswer: 4\n\n"
        "Question: Capital of Peru?\nAnswer:"
    )
    # The model goes on with the list; what follows the blank line is a question of its own making.
    assert made.decoding.stop == ("\n\n",)


def test_without_instructions_the_item_is_all_that_is_said(engine: LlamaCpp) -> None:
    made = prompter(engine, shots=1, place="answer", instructions="", item="{question}")
    assert made.prompt(ITEM).text == (
        f"{HEAD}<|im_start|>user\nCapital of Italy?<|im_end|>\n<|im_start|>assistant\nRome<|im_end|>\n"
        "<|im_start|>user\nCapital of Peru?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert made.decoding.stop == ()


def test_tokens_are_those_of_the_text(engine: LlamaCpp) -> None:
    prompt = prompter(engine, shots=1).prompt(ITEM)
    assert prompt.item_id == "i"
    assert prompt.tokens == engine.tokenize(prompt.text)


def test_more_examples_than_there_are(engine: LlamaCpp) -> None:
    with pytest.raises(UserError, match=r"task\.shots=3 asks for more worked examples than the 2 there are; lower it"):
        prompter(engine, shots=3)


@pytest.mark.parametrize("item", ["{unknown}", "{}", "{question", "{question:d}", "{aliases[x]}", "{aliases[9]}"])
def test_words_that_cannot_be_filled(engine: LlamaCpp, item: str) -> None:
    with pytest.raises(UserError, match=r"task\.prompt\.item=.* cannot be filled .*\{question\}, \{aliases\}\.$"):
        prompter(engine, item=item).prompt(ITEM)


def test_braces_in_an_item_are_left_alone(engine: LlamaCpp) -> None:
    item = replace(ITEM, fields={**ITEM.fields, "question": "What is {x} or {{y}}?"})
    assert "Question: What is {x} or {{y}}?" in prompter(engine).prompt(item).text


def test_identity_changes_with_all_that_surrounds_an_item(engine: LlamaCpp, demo: ModelConfig) -> None:
    made = [
        prompter(engine),
        prompter(engine, instructions="Be very brief."),
        prompter(engine, item="Q: {question}"),
        prompter(engine, item="Question: {question} "),
        prompter(engine, shots=1),
        prompter(engine, shots=2),
        prompter(engine, shots=2, place="answer"),
        prompter(engine, shots=2, place="answer", answer="A:"),
    ]
    identities = [each.hashes["sha256"] for each in made]
    assert len(set(identities)) == len(identities)
    assert [each.hashes["sha256"] for each in made] == identities


def test_identity_changes_with_the_template(engine: LlamaCpp, monkeypatch: pytest.MonkeyPatch) -> None:
    before = prompter(engine).hashes["sha256"]
    # A comment, which shows in no prompt that is rendered here but may stand for a branch that does.
    monkeypatch.setattr(engine._wording, "_template", engine.chat_template + "{# revised #}")
    assert prompter(engine).hashes["sha256"] != before


def test_identity_does_not_change_with_items_or_quant(engine: LlamaCpp, demo: ModelConfig) -> None:
    made = prompter(engine, shots=1)
    before = made.hashes["sha256"]
    for item in DATA.items[:5]:
        made.prompt(item)
    assert made.hashes["sha256"] == before
    file, _ = models.resolve(demo, QuantConfig("F16", "MOSTLY_F16"))
    other = LlamaCpp(file, demo, EngineConfig("llama_cpp", context=256, threads=1))
    try:
        assert prompter(other, shots=1).hashes["sha256"] == before
        assert prompter(other, shots=1).prompt(ITEM) == made.prompt(ITEM)
    finally:
        other.close()


@pytest.mark.parametrize(("shots", "place"), [(0, "turns"), (2, "turns"), (2, "answer")])
def test_shared_tokens_begin_every_prompt(engine: LlamaCpp, shots: int, place: str) -> None:
    made = prompter(engine, shots=shots, place=place)
    prompts = [made.prompt(item) for item in DATA.items[:30]]
    shared = {prompt.tokens[: prompt.shared] for prompt in prompts}
    assert len(shared) == 1
    # All the examples are in it: that is what makes sharing worth while.
    assert len(engine.tokenize(HEAD)) + 10 * shots < len(*shared) < min(len(prompt.tokens) for prompt in prompts)


@given(question=st.text(max_size=40))
def test_shared_tokens_depend_on_nothing_but_the_prompt(engine: LlamaCpp, question: str) -> None:
    item = Item("i", {"question": question, "aliases": ["x"]}, None)
    made = prompter(engine, shots=1, place="answer", item="{question}")
    usual = made.prompt(ITEM)
    alone = made.prompt(item)
    # An unusual beginning may merge with the last shared token; then less is shared, and the last token never is.
    assert alone.shared < len(alone.tokens)
    assert alone.tokens[: alone.shared] == usual.tokens[: alone.shared]
    for other in DATA.items[:3]:
        made.prompt(other)
    assert made.prompt(item) == alone


TOOLS = get_task("tools")
FUNCTION = {"name": "get_time", "description": "Time.", "parameters": {"type": "object", "properties": {}}}
ASKED = Item("t", {"prompt": "How late is it?", "tools": [FUNCTION], "calls": [{"get_time": {}}]}, None)
TELLS = (
    "{{ tools | map(attribute='function') | list | tojson if tools }}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
)


def tool_prompter(engine: LlamaCpp, shots: int = 0, place: str = "turns") -> Prompter:
    words = PromptConfig(1, "Call.", "{prompt}", "Calls:", tools="{functions}\nRequest: {prompt}")
    config = TaskConfig("tools", prompt=words, grader="tools", max_tokens=8, shots=shots)
    model = ModelConfig(name="demo", source="package", examples=ExamplePlace[place])
    return Prompter(TOOLS, config, model, (ASKED,), engine)


def test_functions_are_described_in_words_where_the_template_has_no_place_for_them(engine: LlamaCpp) -> None:
    made = tool_prompter(engine)
    described = "get_time(): Time."
    asked = f"Call.\n\n{described}\nRequest: How late is it?"
    assert made.prompt(ASKED).text == f"{HEAD}<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
    assert made.prompt(ASKED).tools == ()
    assert made.hashes["functions"] == "described in words"
    answered = tool_prompter(engine, 1, "answer").prompt(ASKED).text.partition("<|im_start|>assistant\n")[2]
    one = f"{described}\nRequest: How late is it?\nCalls:"
    assert answered == f"{one} [get_time()]\n\n{one}"


def test_functions_are_given_to_a_template_that_tells_of_them(
    engine: LlamaCpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine._wording, "_chat", ChatTemplate(TELLS, "", ""))
    made = tool_prompter(engine)
    prompt = made.prompt(ASKED)
    assert prompt.text == f"[{json.dumps(FUNCTION)}]<user>How late is it?"
    assert prompt.tools == ({"type": "function", "function": FUNCTION},)
    assert made.hashes["functions"] == "given beside the chat"
    # Worked examples have functions of their own, for which there is one place only.
    assert "functions" in (worded := tool_prompter(engine, 1)).hashes
    assert worded.hashes["functions"] == "described in words"
    assert worded.hashes["words_sha256"] != made.hashes["words_sha256"]
