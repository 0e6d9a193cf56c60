"""Reasoning formats: each dialect, in each of the states that an output can be in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.tasks.reasoning import (
    FORMATS,
    NONE,
    Mark,
    Output,
    ReasoningFormat,
    choose_format,
    find_marks,
    get_format,
    split_output,
)

TAGS = [form for form in FORMATS.values() if len(form.marks) == 2]
CASES = ("complete", "opened by the template", "unfinished", "marks in the reasoning", "marks in the answer", "empty")


def read(text: str, form: ReasoningFormat, ending: str = "") -> tuple[str, str, bool]:
    """Reasoning, answer, and whether there is none, of an output after a prompt that ends so."""
    split = split_output(Output(text, find_marks(text, form.marks), form.find_start(ending)), form)
    return split.reasoning, split.answer, split.ended_in_reasoning


def tags(form: ReasoningFormat) -> dict[str, tuple[str, str, tuple[str, str, bool]]]:
    """Of each case: the prompt's end, the output, and what is to be read."""
    opens, closes = form.marks
    said = f"The tag {opens} opens and {closes} closes."
    return {
        "complete": ("", f"{opens}\nas #### 5 \n{closes}\n\n3+4=7 #### 7", ("as #### 5", "3+4=7 #### 7", False)),
        "opened by the template": (f"{opens}\n", f"as #### 5{closes}#### 7", ("as #### 5", "#### 7", False)),
        "unfinished": ("", f"{opens}as #### 5", ("as #### 5", "", True)),
        "marks in the reasoning": ("", f"{opens}a {opens} b{closes}c", (f"a {opens} b", "c", False)),
        "marks in the answer": ("", f"{opens}a{closes}{said}", ("a", said, False)),
        "empty": (f"{opens}\n", f"as #### 5{closes}\n", ("as #### 5", "", False)),
    }


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", TAGS, ids=lambda form: form.name)
def test_tags(form: ReasoningFormat, case: str) -> None:
    ending, output, expected = tags(form)[case]
    assert read(output, form, ending) == expected


HARMONY: dict[str, tuple[str, str, tuple[str, str, bool]]] = {
    "complete": (
        "",
        "<|channel|>analysis<|message|>as #### 5<|end|><|start|>assistant<|channel|>final<|message|>#### 7<|return|>",
        ("as #### 5", "#### 7", False),
    ),
    "opened by the template": (
        "<|start|>assistant<|channel|>analysis<|message|>",
        "as #### 5<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>{}<|return|>",
        ("as #### 5", "{}", False),
    ),
    "unfinished": ("", "<|channel|>analysis<|message|>as #### 5", ("as #### 5", "", True)),
    "marks in the reasoning": (
        "",
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|> b<|end|>"
        "<|start|>assistant<|channel|>final<|message|>c",
        ("a b", "c", False),
    ),
    "marks in the answer": (
        "",
        "<|channel|>final<|message|>It says <|channel|>final and <|message|>.<|return|>",
        ("", "It says <|channel|>final and <|message|>.", False),
    ),
    "empty": (
        "",
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|><|return|>",
        ("a", "", False),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_harmony(case: str) -> None:
    ending, output, expected = HARMONY[case]
    assert read(output, FORMATS["harmony"], ending) == expected


def test_an_output_between_two_messages_has_no_answer() -> None:
    header = "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>fin"
    assert read(header, FORMATS["harmony"]) == ("a", "", True)
    called = "<|channel|>commentary to=functions.f<|message|>{}<|call|>"
    assert read(called, FORMATS["harmony"]) == ("", "to=functions.f {}", False)
    assert read(called.replace("functions.f", "all"), FORMATS["harmony"]) == ("{}", "", True)


def test_a_template_may_close_reasoning_before_it_begins() -> None:
    think = FORMATS["think"]
    assert read("</think> is a tag", think, "<|im_start|>assistant\n<think>\n\n</think>\n\n") == (
        "",
        "</think> is a tag",
        False,
    )
    final = "<|start|>assistant<|channel|>final<|message|>"
    assert read("7<|return|>", FORMATS["harmony"], final) == ("", "7", False)


def test_a_closing_mark_alone_ends_reasoning_that_was_not_seen_to_begin() -> None:
    assert read("as #### 5</think>#### 7", FORMATS["think"]) == ("as #### 5", "#### 7", False)


def test_the_label_of_a_channel_is_not_reasoning() -> None:
    assert read("<|channel>thought\nas #### 5<channel|>7", FORMATS["gemma"]) == ("as #### 5", "7", False)
    assert read("<|channel>thought\n<channel|>7", FORMATS["gemma"]) == ("", "7", False)
    assert read("<|channel>thoughtful\n<channel|>7", FORMATS["gemma"]) == ("thoughtful", "7", False)


def test_a_mark_is_a_token_and_the_same_characters_are_text() -> None:
    text = "<think>the tag </think> is mine</think>7"
    marks = (Mark(0, 7, "<think>", 1), Mark(31, 39, "</think>", 9))
    split = split_output(Output(text, marks, tokens=10), FORMATS["think"])
    assert (split.reasoning, split.answer, split.reasoning_tokens) == ("the tag </think> is mine", "7", 9)


@pytest.mark.parametrize("form", [*TAGS, FORMATS["harmony"], NONE], ids=lambda form: form.name)
@given(text=st.text(max_size=200), reasoned=st.text(alphabet="ab \n<>|/", max_size=30))
def test_an_output_without_marks_is_the_answer_to_the_letter(form: ReasoningFormat, text: str, reasoned: str) -> None:
    split = split_output(Output(text), form)
    assert (split.reasoning, split.answer, split.ended_in_reasoning) == ("", text, False)
    # And whatever is between marks, nothing of it is graded.
    if len(form.marks) == 2:
        found = read(f"{form.marks[0]}{reasoned}{form.marks[1]}{text}", form)
        assert found == (reasoned.strip(), text.lstrip(), False)
        assert read(f"{form.marks[0]}{reasoned}", form) == (reasoned.strip(), "", True)


@pytest.mark.parametrize(
    ("template", "tokens", "name"),
    [
        ("{{ '<think>' }}", (), "think"),
        ("{% if '</think>' in content %}", (), "think"),
        ("{{ messages }}", ("<think>", "</think>"), "think"),
        ("<|start|><|channel|>analysis<|message|>", (), "harmony"),
        ("{{ '<|channel>thought' }}", (), "gemma"),
        ("{{ '[THINK]' }}", (), "magistral"),
        ("{{ messages }}", ("<think>",), "none"),
        ("{{ messages }}", (), "none"),
    ],
)
def test_a_format_is_chosen_by_template_and_vocabulary(template: str, tokens: tuple[str, ...], name: str) -> None:
    assert choose_format(template, tokens).name == name


def test_marks_of_another_format_are_text() -> None:
    marks = find_marks("<think>2+2</think>4", FORMATS["think"].marks)
    for name in ("gemma", "magistral", "seed"):
        split = split_output(Output("<think>2+2</think>4", marks), FORMATS[name])
        assert (split.reasoning, split.answer) == ("", "<think>2+2</think>4")


def test_an_answer_that_has_ended_is_over() -> None:
    tracker = FORMATS["harmony"].track("free")
    for mark in ("<|channel|>", "<|message|>"):
        tracker.feed("final")
        tracker.mark(mark)
    assert (tracker.part, tracker.is_over) == ("answer", False)
    tracker.mark("<|end|>")
    assert tracker.is_over


def test_marks_of_ones_own() -> None:
    own = get_format("<reason>...</reason>")
    assert own is not None
    assert read("<reason>a</reason>b", own) == ("a", "b", False)
    assert get_format("thinking") is None
    assert get_format("<a>...<a>") is None
