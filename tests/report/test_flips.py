"""What changed between two quants: hand-made tables, properties, and a page that no output gets out of."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from quantexp.report.flips import CHANGES, COLUMNS, Flips, anchor, flip_rows, flips, flips_page
from quantexp.stats import Kind, Method, compare

Read = tuple[float | None, str | None, str | None]
"""Score, extracted answer, reading error."""

RIGHT: Read = (1.0, "18", None)
WRONG: Read = (0.0, "20", None)
NOTHING = Flips(0, 0, 0, 0, 0, 0, 0, 0, 0)


def answers(*rows: Read, **columns: Any) -> pd.DataFrame:
    """A per-item table with a seed: one item after the other, unless columns say otherwise."""
    n = len(rows)
    table = {
        "seed": [0] * n,
        "item_id": [f"i{number}" for number in range(n)],
        "cluster": [f"c{number}" for number in range(n)],
        "sample": [0] * n,
        "difficulty": [None] * n,
        "prompt": ["How many?"] * n,
        "output": [f"It is {extracted}" for _, extracted, _ in rows],
        "reference": ["18"] * n,
        "extracted": [extracted for _, extracted, _ in rows],
        "score": [score for score, _, _ in rows],
        "grading_error": [error for _, _, error in rows],
        "finish_reason": ["stop"] * n,
    }
    return pd.DataFrame({**table, **{name: list(values) for name, values in columns.items()}})


@pytest.mark.parametrize(
    ("before", "after", "change", "churned"),
    [
        (RIGHT, WRONG, "lost", True),
        (WRONG, RIGHT, "gained", True),
        ((2 / 3, "{}", None), (1 / 3, "{}", None), "lost", False),
        ((0.0, "7", None), (0.0, "8", None), "another wrong answer", True),
        ((2 / 3, "a", None), (2 / 3, "b", None), "another wrong answer", True),
        ((0.0, "7", None), (0.0, None, "no number"), "another wrong answer", True),
        ((0.0, None, "no number"), (0.0, None, "[invalid]"), "another wrong answer", False),
        ((1.0, "Paris", None), (1.0, "paris city", None), "same score, other answer", True),
        ((0.1 + 0.2, "a", None), (0.3, "a", None), None, False),
        ((1.0 - 1e-15, "a", None), (1.0 - 1e-16, "b", None), "same score, other answer", True),
        (RIGHT, RIGHT, None, False),
        (WRONG, WRONG, None, False),
        ((0.0, None, "no number"), (0.0, float("nan"), "no number"), None, False),
    ],
)
def test_each_change(before: Read, after: Read, change: str | None, churned: bool) -> None:
    baseline, quant = answers(RIGHT, before), answers(RIGHT, after)
    counted = flips(baseline, quant)
    found = [counted.lost, counted.gained, counted.both_wrong_different, counted.both_right_different]
    assert found == [int(change == each) for each in CHANGES]
    assert (counted.answers, counted.churn) == (2, int(churned))
    rows = flip_rows(baseline, quant, task="gsm8k", name="Q4")
    assert list(rows.columns) == list(COLUMNS)
    assert rows["change"].tolist() == ([change] if change else [])


def test_a_row_says_what_both_sides_did() -> None:
    baseline = answers(RIGHT, output=["so 18"], seed=[7], sample=[2], prompt=["P"], reference=["R"])
    quant = answers((0.0, None, "no number"), output=["hm"], seed=[7], sample=[2], prompt=["P"], reference=["R"])
    (row,) = flip_rows(baseline, quant, task="gsm8k", name="Q4").to_dict("records")
    assert pd.isna(row.pop("quant_extracted"))
    assert row == {
        "task": "gsm8k",
        "quant": "Q4",
        "seed": 7,
        "item_id": "i0",
        "sample": 2,
        "change": "lost",
        "baseline_score": 1.0,
        "quant_score": 0.0,
        "baseline_extracted": "18",
        "reference": "R",
        "prompt": "P",
        "baseline_output": "so 18",
        "quant_output": "hm",
    }


def test_rows_are_sorted_by_change_and_keep_the_baselines_order_within_one() -> None:
    kinds = [(WRONG, RIGHT), (RIGHT, WRONG), ((0.0, "1", None), (0.0, "2", None)), (RIGHT, (1.0, "x", None))]
    pairs = [kinds[number] for number in (3, 0, 2, 1, 0, 1, 2, 3)]
    names = ["h", "g", "f", "e", "d", "c", "b", "a"]
    baseline = answers(*(before for before, _ in pairs), item_id=names)
    quant = answers(*(after for _, after in pairs), item_id=names).iloc[::-1]
    assert flip_rows(baseline, quant, task="t", name="q")["item_id"].tolist() == list("ecgdfbha")


def test_only_answers_that_both_sides_scored_are_compared() -> None:
    baseline = answers(RIGHT, RIGHT, RIGHT, (None, None, "not asked"), item_id=["a", "b", "c", "d"])
    quant = answers(WRONG, (None, None, "not asked"), WRONG, WRONG, item_id=["a", "b", "other", "d"])
    assert flips(baseline, quant) == Flips(1, 1, 0, 0, 0, 1, 1, 1, 0)
    for column, values in (("seed", [1, 1, 1, 1]), ("sample", [1, 1, 1, 1])):
        assert flips(baseline, quant.assign(**{column: values})) == NOTHING


def test_of_several_rows_for_one_answer_the_last_counts() -> None:
    baseline = answers(WRONG, RIGHT, item_id=["a", "a"])
    quant = answers(RIGHT, WRONG, WRONG, item_id=["a", "a", "a"])
    assert flips(baseline, quant) == Flips(1, 1, 0, 0, 0, 1, 1, 1, 0)
    unasked = answers(RIGHT, (None, None, "not asked"), item_id=["a", "a"])
    assert flips(unasked, quant) == NOTHING


@pytest.mark.parametrize("empty", [pd.DataFrame(), answers(), answers().astype(object), answers(RIGHT).iloc[:0]])
def test_empty_tables_count_nothing(empty: pd.DataFrame) -> None:
    full, unasked = answers(RIGHT, WRONG), answers((None, None, "not asked"))
    pairs = [(empty, empty), (empty, full), (full, empty), (full, unasked), (empty, unasked)]
    for baseline, quant in [*pairs, (unasked, unasked.assign(seed="0"))]:
        assert flips(baseline, quant) == NOTHING
        rows = flip_rows(baseline, quant, task="t", name="q")
        assert rows.empty
        assert list(rows.columns) == list(COLUMNS)
        assert "No answer changed." in flips_page(rows, "T", "Q8_0")
    assert "No answer changed." in flips_page(pd.DataFrame(), "T", "Q8_0")


def test_gaps_everywhere_crash_nothing() -> None:
    gaps = [None, None]
    names = ("seed", "sample", "cluster", "prompt", "output", "reference", "extracted", "grading_error")
    columns = {name: gaps for name in names}
    baseline, quant = answers(RIGHT, WRONG, **columns), answers(WRONG, RIGHT, **columns)
    assert (flips(baseline, quant).lost, flips(baseline, quant).gained) == (1, 1)
    flips_page(flip_rows(baseline, quant, task="t", name="q"), "T", "Q8_0")


def test_a_table_without_a_column_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"the quant's table has no column grading_error"):
        flips(answers(RIGHT), answers(RIGHT).drop(columns="grading_error"))


def test_an_item_counts_once_by_its_mean_over_seeds() -> None:
    items = ["a", "a", "b", "b", "c", "c"]
    where = {"seed": [0, 1] * 3, "item_id": items, "cluster": items}
    baseline = answers(RIGHT, WRONG, RIGHT, RIGHT, WRONG, WRONG, **where)
    quant = answers(WRONG, RIGHT, WRONG, WRONG, WRONG, RIGHT, **where)
    counted = flips(baseline, quant)
    assert (counted.lost, counted.gained, counted.changed) == (3, 2, 5)
    assert (counted.items, counted.items_lost, counted.items_gained, counted.items_changed) == (3, 1, 1, 2)


def test_items_of_one_cluster_are_one_and_without_a_cluster_each_is_its_own() -> None:
    baseline, quant = answers(*[RIGHT] * 4), answers(*[WRONG] * 4)
    assert flips(baseline.assign(cluster="same"), quant.assign(cluster="same")).items_lost == 1
    for gap in ("", None):
        assert flips(baseline.assign(cluster=gap), quant.assign(cluster=gap)).items_lost == 4
    mixed = ["i1", "", "i1", ""]  # a cluster's id is not an item's
    assert flips(baseline.assign(cluster=mixed), quant.assign(cluster=mixed)).items == 3


reads = st.sampled_from(
    [RIGHT, WRONG, (0.0, "7", None), (1.0, "18.0", None), (0.0, None, "no number"), (0.0, None, "[invalid]")]
    + [(third / 3, f"{third}{letter}", None) for third in (1, 2) for letter in "ab"]
    + [(None, None, "not asked")]
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two tables of one task: some answers on one side only, some twice, some unscored, some items alike."""
    keys = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 1)), max_size=20))
    sides = []
    for _ in range(2):
        mine = [key for key in keys if draw(st.booleans()) or draw(st.booleans())]
        columns = {
            "seed": [seed for seed, _, _ in mine],
            "item_id": [f"i{item}" for _, item, _ in mine],
            "cluster": [f"c{item // 2}" for _, item, _ in mine],
            "sample": [sample for _, _, sample in mine],
        }
        sides.append(answers(*(draw(reads) for _ in mine), **columns))
    return sides[0], sides[1]


def scored(table: pd.DataFrame) -> set[tuple[int, str, int]]:
    """The answers that have a score, by their last row."""
    rows = zip(table["seed"], table["item_id"], table["sample"], table["score"], strict=True)
    return {key for key, score in {row[:3]: row[3] for row in rows}.items() if not pd.isna(score)}


@given(tables())
def test_counts_add_up(sides: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    counted, rows = flips(*sides), flip_rows(*sides, task="t", name="q")
    kinds = [counted.lost, counted.gained, counted.both_wrong_different, counted.both_right_different]
    assert [int((rows["change"] == change).sum()) for change in CHANGES] == kinds
    assert len(rows) == sum(kinds) <= counted.answers
    assert not rows.duplicated(["seed", "item_id", "sample"]).any()
    first, second = (scored(side) for side in sides)
    assert counted.answers == len(first & second)
    assert counted.items == len({int(key[1][1:]) // 2 for key in first & second})
    assert counted.items_changed <= min(counted.items, counted.changed)
    misread = sum(pd.isna(row["baseline_extracted"]) and pd.isna(row["quant_extracted"]) for _, row in rows.iterrows())
    assert counted.churn == len(rows) - misread  # here no score changes without another answer
    for before, after, change in zip(rows["baseline_score"], rows["quant_score"], rows["change"], strict=True):
        assert (before > after, before < after) == (change == "lost", change == "gained")


@given(tables())
def test_swapping_the_sides_exchanges_lost_and_gained(sides: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    baseline, quant = sides
    there, back = flips(baseline, quant), flips(quant, baseline)
    assert back == Flips(
        answers=there.answers,
        lost=there.gained,
        gained=there.lost,
        both_wrong_different=there.both_wrong_different,
        both_right_different=there.both_right_different,
        churn=there.churn,
        items=there.items,
        items_lost=there.items_gained,
        items_gained=there.items_lost,
    )


binary = st.sampled_from([0.0, 1.0])
graded = st.sampled_from([0.0, 0.1, 0.2, 0.3, 1 / 3, 0.4, 0.5, 2 / 3, 0.7, 1.0])


def repeated(scores: st.SearchStrategy[float]) -> st.SearchStrategy[list[tuple[int, float, float]]]:
    """Cluster and both scores of each answer."""
    return st.lists(st.tuples(st.integers(0, 6), scores, scores), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(st.one_of(repeated(binary), repeated(graded)), st.booleans(), st.sampled_from(Method))
@example([(0, 0.1, 0.3), (0, 0.2, 0.2), (0, 0.3, 0.1)], True, Method.default)  # 0.1 + 0.2 + 0.3 > 0.3 + 0.2 + 0.1
def test_lost_and_gained_agree_with_the_statistics(
    drawn: list[tuple[int, float, float]], clustered: bool, method: Method
) -> None:
    clusters = [cluster for cluster, _, _ in drawn] if clustered else list(range(len(drawn)))
    before, after = np.array([b for _, b, _ in drawn]), np.array([a for _, _, a in drawn])
    expected = compare(before, after, clusters=clusters, resamples=10, method=method)
    names = [f"c{cluster}" for cluster in clusters]
    baseline = answers(*((score, "x", None) for score in before), cluster=names)
    quant = answers(*((score, "x", None) for score in after), cluster=names).iloc[::-1]
    counted = flips(baseline, quant)
    assert (counted.items_lost, counted.items_gained) == (expected.lost, expected.gained)
    assert (counted.items, counted.answers) == (expected.n, expected.answers)
    alone = compare(before, after, resamples=10, method=method)
    assert (counted.lost, counted.gained) == (alone.lost, alone.gained)


def test_a_tie_by_rounding_is_one_for_both() -> None:
    before, after = [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]
    assert sum(before) != sum(after)
    baseline, quant = (answers(*((s, "x", None) for s in side), cluster=["c"] * 3) for side in (before, after))
    assert flips(baseline, quant).items_changed == 0
    assert compare(before, after, clusters=["c"] * 3, resamples=10).kind is Kind.graded


def changed(*outputs: tuple[str, str], **columns: Any) -> pd.DataFrame:
    """Rows of lost answers with these outputs of the baseline and the quant, and what columns say."""
    n = len(outputs)
    rows = flip_rows(answers(*[RIGHT] * n), answers(*[WRONG] * n), task="gsm8k", name="Q4_K_M").astype(object)
    columns |= {"baseline_output": [before for before, _ in outputs], "quant_output": [after for _, after in outputs]}
    for name, values in columns.items():
        # As objects: pandas' own strings cannot hold half a character.
        rows[name] = pd.Series(values if isinstance(values, list) else [values] * n, dtype=object)
    return rows


def parsed(page: str) -> list[Token]:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page)


def fences(page: str) -> list[str]:
    return [token.content for token in parsed(page) if token.type == "fence"]


def visible(text: str) -> str:
    """The text as a page shows it: line breaks and tabs as they are."""
    shown = (c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(shown)


def test_the_page_reads_as_it_should() -> None:
    rows = pd.concat([changed(("a\n#### 18", "b\n#### 20")), changed(("c", "d"), change="gained")])
    page = flips_page(rows, "Flips of *m*", "Q8_0")
    assert page.splitlines()[0] == r"# Flips of \*m\*"
    assert (
        page.partition("\n\n## ")[2]
        == f"""<a id="{anchor("gsm8k", "Q4_K_M")}"></a>gsm8k, Q4_K_M

- lost: 1
- gained: 1
- another wrong answer: 0
- same score, other answer: 0

### Lost

#### ` i0 `, seed 0: 1 to 0

- reference: ` 18 `
- read from Q8_0: ` 18 `
- read from Q4_K_M: ` 20 `

Asked:

```text
How many?
```

Output of Q8_0:

```text
a
#### 18
```

Output of Q4_K_M:

```text
b
#### 20
```

### Gained

#### ` i0 `, seed 0: 1 to 0

- reference: ` 18 `
- read from Q8_0: ` 18 `
- read from Q4_K_M: ` 20 `

Asked:

```text
How many?
```

Output of Q8_0:

```text
c
```

Output of Q4_K_M:

```text
d
```
"""
    )


def test_of_many_answers_the_first_are_shown_and_the_rest_counted() -> None:
    rows = pd.concat([changed(*[("x", "y")] * 23), changed(*[("g", "h")] * 5, change="gained")])
    page = flips_page(rows, "T", "Q8_0")
    assert (page.count("Output of Q8_0:"), fences(page)[1::3].count("g\n")) == (25, 5)
    assert "3 more lost in the table." in page
    assert "more gained" not in page
    assert "- lost: 23" in page
    page = flips_page(rows, "T", "Q8_0", limit=0)
    assert fences(page) == []
    assert "23 more lost in the table." in page
    assert "5 more gained in the table." in page


def test_the_other_changes_are_counted_only() -> None:
    page = flips_page(changed(("x", "y"), change="another wrong answer"), "T", "Q8_0")
    assert "- another wrong answer: 1" in page
    assert fences(page) == []


def test_every_task_and_quant_has_its_section_under_its_anchor() -> None:
    pairs = [("b", "Q4"), ("a", "Q4"), ("a", "Q3"), ("a b", "Q"), ("a-b", "Q"), ("a", "b-Q"), ("A", "Q3")]
    page = flips_page(pd.concat([changed(("x", "y"), task=t, quant=q) for t, q in pairs]), "T", "Q8_0")
    ids = [anchor(*pair) for pair in pairs]
    assert len(set(ids)) == len(pairs)
    places = [page.index(f'## <a id="{each}"></a>') for each in ids]
    assert places == sorted(places)


def test_a_sample_is_named_where_there_are_several() -> None:
    assert "sample" not in flips_page(changed(("x", "y")), "T", "Q8_0")
    assert "seed 0, sample 1:" in flips_page(changed(("x", "y"), sample=1), "T", "Q8_0")


def test_controls_are_shown_as_escapes() -> None:
    page = flips_page(changed(("\x1b[31mred\r\n\x00\u202etxt\ud800", "tab\there\u2028")), "T", "Q8_0")
    assert fences(page)[1:] == ["\\x1b[31mred\\r\n\\x00\\u202etxt\\ud800\n", "tab\there\\u2028\n"]


WORDS = "Solve it.\n\n"
ASKED = "Question: What is 2?\n\nSay it."
CHATS = {
    "chatml": f"<|im_start|>user\nold<|im_end|>\n<|im_start|>assistant\nx<|im_end|>\n<|im_start|>user\n{ASKED}"
    "<|im_end|>\n<|im_start|>assistant\n",
    "thinking": f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "llama3": f"<|start_header_id|>user<|end_header_id|>\n\n{ASKED}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma": f"<bos><start_of_turn>user\nold<end_of_turn>\n<start_of_turn>model\nx<end_of_turn>\n<start_of_turn>user\n"
    f"{ASKED}<end_of_turn>\n<start_of_turn>model\n",
    "mistral": f"<s>[INST] old[/INST] x</s>[INST] {ASKED}[/INST]",
    "unknown": f"\n{ASKED}\n",
    "in the answer": f"<|im_start|>user\nSolve.<|im_end|>\n<|im_start|>assistant\n\n\nQuestion: old\nA: x\n\n{ASKED}",
}


@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS.keys())
def test_of_a_prompt_the_last_question_is_shown(chat: str) -> None:
    assert fences(flips_page(changed(("x", "y"), prompt=chat), "T", "Q8_0"))[0] == f"{ASKED}\n"


def test_of_a_long_question_the_end_is_shown() -> None:
    prompt = f"<|im_start|>user\n{'instructions ' * 100}the end<|im_end|>\n<|im_start|>assistant\n"
    (asked, _, _) = fences(flips_page(changed(("x", "y"), prompt=prompt), "T", "Q8_0"))
    assert asked.startswith("...")
    assert asked.endswith(" the end\n")
    assert len(asked) == 3 + 600 + 1


pieces = [
    "```",
    "~~~",
    "\n```\n",
    "\n````\n",
    "`",
    "\r\n```\n# x\n",
    "\x0b```\x0c",
    "\n    ",
    "\t",
    "\n> ",
    "\n- ",
    "|",
]
pieces += [
    "<script>",
    "</a>",
    "<!--",
    "![x](y)",
    "[x](y)",
    "$$",
    "&#96;",
    "\\",
    "\x1b[2J",
    "\u202e",
    "\u2028",
    "\ud800",
]
pieces += ["# x\n", "\n===\n", "\x00", "<|im_start|>user", "[/INST]", " "]
hostile = st.one_of(
    st.text(st.characters(), max_size=40),
    st.lists(st.one_of(st.sampled_from(pieces), st.text(st.characters(), max_size=3)), max_size=8).map("".join),
)


@settings(deadline=None)
@given(st.lists(st.tuples(hostile, hostile), min_size=1, max_size=4), st.lists(hostile, min_size=8, max_size=8))
@example([("```\nx\n````", "~~~\n`````\n# out"), ("`", "")], ["`", "``", "`a``", "<b>", "a`", "`a", "|", "$`x`$"])
def test_whatever_a_model_wrote_stays_in_its_fence(outputs: list[tuple[str, str]], names: list[str]) -> None:
    title, baseline, task, quant, item, reference, extracted, prompt = names
    rows = changed(
        *outputs,
        **{"task": task, "quant": quant, "item_id": item, "reference": reference},
        **{"baseline_extracted": extracted, "quant_extracted": reference, "prompt": prompt},
    )
    page = flips_page(rows, title, baseline)
    page.encode()
    assert all(each.isprintable() or each in "\n\t" for each in page)
    tokens = parsed(page)
    blocks = [token.content for token in tokens if token.type == "fence"]
    assert blocks[1::3] == [visible(before) + "\n" for before, _ in outputs]
    assert blocks[2::3] == [visible(after) + "\n" for _, after in outputs]
    assert {token.info for token in tokens if token.type == "fence"} == {"text"}
    # Nothing else is on the page than what the page itself puts there.
    n = len(outputs)
    kinds = [token.type for token in tokens if token.nesting != -1]
    expected = ["heading_open", "inline", "paragraph_open", "inline"]
    expected += ["heading_open", "inline", "bullet_list_open", *["list_item_open", "paragraph_open", "inline"] * 4]
    expected += ["heading_open", "inline"]
    answer = ["heading_open", "inline", "bullet_list_open", *["list_item_open", "paragraph_open", "inline"] * 3]
    answer += ["paragraph_open", "inline", "fence"] * 3
    assert kinds == expected + answer * n
    inline = [child for token in tokens for child in token.children or []]
    assert {child.type for child in inline} <= {"text", "text_special", "code_inline", "html_inline"}
    html = [child.content for child in inline if child.type == "html_inline"]
    assert html == [f'<a id="{anchor(task, quant)}">', "</a>"]


@given(hostile, hostile)
def test_an_anchor_is_plain_and_the_same_each_time(task: str, quant: str) -> None:
    assert anchor(task, quant) == anchor(task, quant)
    assert set(anchor(task, quant)) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-")


@given(hostile.filter(lambda text: text.split() != []))
@example("`")
@example("``x`")
def test_a_name_in_a_code_span_is_whole(item: str) -> None:
    tokens = parsed(flips_page(changed(("x", "y"), item_id=item), "T", "Q8_0"))
    heading = next(t for before, t in pairwise(tokens) if before.tag == "h4")
    assert heading.children is not None
    assert heading.children[0].type == "code_inline"
    assert heading.children[0].content == visible(" ".join(item.split()))
