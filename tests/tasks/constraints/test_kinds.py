"""Each kind of constraint: texts that keep it, texts that break it, and any text at all."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.tasks.constraints import FAMILIES, KINDS, check_constraint, keeps_constraint
from quantexp.tasks.constraints.language import LANGUAGES

CASES: tuple[tuple[str, dict[str, Any], tuple[str, ...], tuple[str, ...]], ...] = (
    ("words", {"exactly": 3}, ("one two three", "1. well-known, isn't - it", "a\nb\nc."), ("", "one two", "a b c d")),
    ("words", {"at_least": 1, "at_most": 2}, ("one", "one two"), ("...", "one two three")),
    ("characters", {"at_most": 5}, ("  12345\n", ""), ("123456",)),
    (
        "sentences",
        {"exactly": 2},
        ("One. Two?", "Mr. J. Doe came at 5 p.m. on Monday. Hm!", "a\n\nb", "- a\n- b"),
        ("One",),
    ),
    ("paragraphs", {"exactly": 2}, ("a\n\nb", "a\nb\n \n\nc\n"), ("a\nb", "a\n\nb\n\nc", "")),
    ("lines", {"exactly": 2}, ("a\nb", "a\n\nb\n"), ("a", "a\nb\nc", "")),
    ("words_per_line", {"exactly": 2}, ("a b\nc d", "1. a b"), ("a b\nc", "", "a b c")),
    ("words_per_sentence", {"at_most": 2}, ("A b. C d!", "A"), ("A b c.", "", "A. B c d.")),
    ("words_per_paragraph", {"at_least": 2}, ("a b\n\nc d e",), ("a b\n\nc", "")),
    ("sentences_per_paragraph", {"exactly": 2}, ("He ate. So did we.\n\nOh! No.",), ("Oh! No.\n\nHm.", "")),
    ("word_length", {"at_most": 3}, ("the ox's 1234", "a-b-c"), ("this", "")),
    (
        "bullets",
        {"exactly": 2},
        ("- a\n- b", "Two:\n* a\n• b", "  - a\n  - b"),
        ("-a\n-b", "- a", "1. a\n2. b", "- a\n- b\n- c"),
    ),
    (
        "numbered",
        {"exactly": 2},
        ("1. a\n2. b", "Two:\n1) a\n\n**2.** b"),
        ("1. a\n3. b", "2. a\n3. b", "- a\n- b", "", "1. a"),
    ),
    ("headings", {"at_least": 1}, ("# a", "x\n### b"), ("#a", "a # b", "", "####### a")),
    (
        "sections",
        {"labels": ["Problem", "Remedy"]},
        ("Problem: a\nRemedy: b", "# Problem\na\n**Remedy:** b"),
        ("Remedy: b\nProblem: a", "Problem: a", "Problems: a\nRemedy: b", "Problem:\nRemedy: b", ""),
    ),
    ("title", {"opens": "<<", "closes": ">>"}, ("<<a>>\nb", "\n# <<a b>>"), ("a\n<<b>>", "<<a", "<<>>", "<< >>", "")),
    ("emphasis", {"exactly": 2}, ("*a* and **b c**", "* *a*\n* *b*"), ("*a*", "2 * 3 * 4", "***", "", "*a* *b* *c*")),
    ("placeholders", {"at_least": 2}, ("[a] [b c]",), ("[a]", "[[]] []", "")),
    (
        "json_object",
        {"keys": ["a", "b"]},
        ('{"b": 1, "a": {}}', '```json\n{"a": 1, "b": 2}\n```'),
        ('{"a": 1}', '{"a": 1, "b": 2, "c": 3}', "[]", "a, b", '{"a": 1, "b": 2} x', "[" * 9999),
    ),
    ("json_object", {}, ("{}",), ("[]", "null")),
    (
        "json_list",
        {"exactly": 2, "of": "text"},
        ('["a", "b"]', '```\n["a", "b"]\n```'),
        ('["a"]', '["a", 1]', "{}", "a, b"),
    ),
    ("json_list", {"at_least": 1, "of": "number"}, ("[1, 2.5]",), ("[true]", "[]", '["1"]')),
    ("json_list", {"at_least": 1, "of": "object"}, ("[{}]",), ("[[]]",)),
    (
        "table",
        {"columns": 2, "rows": 1},
        ("| a | b |\n|---|:--|\n| 1 | 2 |", "See:\n\na | b\n--|--\n1 | 2\n"),
        (
            "| a | b |\n| 1 | 2 |",
            "| a | b |\n|---|---|",
            "| a |\n|---|\n| 1 |",
            "",
            "| a | b |\n|---|---|\n| 1 |",
            "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |",
            "|a|b|\n|-|-|\n|1|2|\n\n|c|d|\n|-|-|\n|1|2|",
        ),
    ),
    ("separated", {"separator": ";", "exactly": 3}, ("a; b; c",), ("a; b", "a;b\nc;d;e", "a;;c", "a; b; c;", "")),
    (
        "code_block",
        {},
        ("x\n```\na\n```\ny", "```python\na\n```"),
        ("`a`", "```\na", "```\n\n```", "", "```\na\n```\n```\nb\n```"),
    ),
    (
        "code_block",
        {"language": "python", "alone": "yes"},
        ("```python\na\n```", "\n```Python\na\n```\n"),
        ("```\na\n```", "x\n```python\na\n```"),
    ),
    ("divided", {"divider": "***", "exactly": 2}, ("a\n***\nb", "a *** b"), ("a", "***\nb", "a\n***", "a***b***c", "")),
    (
        "include",
        {"words": ["tea", "thank you"]},
        ("Tea! Thank  you.", "tea, thank\nyou"),
        ("teas, thank you", "tea", ""),
    ),
    ("exclude", {"words": ["the", "isn’t"]}, ("They ate", ""), ("The end", "It isn't")),
    ("frequency", {"word": "snow", "exactly": 2}, ("Snow, snow!",), ("snow", "snow snow snow", "snow snowy", "")),
    ("letter_frequency", {"letter": "Z", "at_least": 2}, ("zZ",), ("z", "")),
    ("without_letters", {"letters": "ae"}, ("rhythm", ""), ("A", "bed")),
    ("numbers", {"exactly": 2}, ("2 eggs, 1,000.5 g", "1. at 8:30\n2. with 4"), ("two", "1 2 3", "7")),
    ("one_of", {"options": ["Yes", "I don't know."]}, ("yes", '"Yes."', " I don’t know"), ("Yes, it is", "", "know")),
    ("order", {"words": ["a", "b"]}, ("a b", "a b a"), ("b a", "a", "b a b", "")),
    ("order", {"words": ["a", "A"]}, (), ("a a",)),
    ("sorted", {"by": "alphabet", "of": "lines"}, ("a\nB\nc", "Here:\n- a\n- b"), ("b\na", "a", "")),
    ("sorted", {"by": "alphabet reversed", "of": "commas"}, ("c, b, a.",), ("a, b, c", "c")),
    ("sorted", {"by": "length", "of": "lines"}, ("bb\naa\nccc",), ("ccc\nbb",)),
    ("acrostic", {"word": "SUN"}, ('Sky\nup\n- "no"',), ("Sky\nup", "Sky\nup\nno\nx", "", "SUN")),
    ("distinct", {}, ("a b c",), ("a b A", "")),
    ("initial", {"letter": "s"}, ("Seven 'silent' swans",), ("seven white swans", "")),
    ("case", {"case": "lower"}, ("all small, 1",), ("One", "123", "")),
    ("case", {"case": "upper"}, ("ALL 1",), ("ALl", "")),
    ("case", {"case": "title"}, ("All Of It, 3 Times",), ("All of it",)),
    ("capitals", {"exactly": 1}, ("a NASA I 12",), ("A b", "NO NO")),
    ("without", {"characters": ",."}, ("a; b", ""), ("a, b", "a.")),
    (
        "begins",
        {"text": "Dear Ms O'Neil,"},
        ("dear Ms O’Neil,\nhow", "\n Dear  Ms O'Neil, x"),
        ("Oh, dear Ms O'Neil,", ""),
    ),
    ("ends", {"text": "yours, Tom"}, ("bye\nYours, Tom\n", '"Yours, Tom."'), ("yours, Tom!", "")),
    ("quoted", {}, ('"a"', "“a”\n"), ("a", '"a', '""', '"a" b', "'a'")),
    (
        "postscript",
        {"marker": "P.S."},
        ("a\n\nP.S. b", "a\n**P.S.** b"),
        ("P.S. b", "a", "a\nP.S.", "a\nP.S. b\nP.S. c"),
    ),
    ("sentence_ends", {"mark": "?"}, ("A? B?", 'A? "B?"', "- A?\n- B?"), ("A? B.", "", "A")),
    ("parentheses", {"exactly": 1}, ("a (b)", "(x) ()"), ("a", "(a) (b)", "(", "(...)")),
    ("line_begins", {"text": "I wish"}, ("I wish\n- i wish b",), ("I wish\nb", "")),
    ("line_ends", {"text": ";"}, ("a;\n\nb; ",), ("a;\nb", "")),
    ("language", {"language": "English"}, ("What is the name of it?",), ("Wie ist der Name?", "", "123")),
    ("language", {"language": "German"}, ("Der Hund ist nicht im Garten.",), ("The dog is in the garden.",)),
    (
        "language",
        {"language": "French"},
        ("Le chien est dans le jardin, c’est bien.",),
        ("El perro está en el jardín.",),
    ),
    (
        "language",
        {"language": "Spanish"},
        ("El perro está en el jardín, pero no es mi perro.",),
        ("O cão está no jardim, mas não é meu.",),
    ),
    ("language", {"language": "Portuguese"}, ("O cão está no jardim, mas não é meu.",), ("Il cane è nel giardino.",)),
    (
        "language",
        {"language": "Italian"},
        ("Il cane è nel giardino, ma non è il mio.",),
        ("Le chien est dans le jardin.",),
    ),
    (
        "language",
        {"language": "Dutch"},
        ("De hond is niet in de tuin, maar in het huis.",),
        ("Der Hund ist nicht im Garten.",),
    ),
    ("language", {"language": "Russian"}, ("Собака в саду.",), ("Sobaka v sadu.", "Собака is in the garden")),
    ("language", {"language": "Greek"}, ("Ο σκύλος είναι στον κήπο.",), ("Собака",)),
    ("language", {"language": "Arabic"}, ("الكلب في الحديقة",), ("dog",)),
    ("language", {"language": "Hindi"}, ("1. कुत्ता बगीचे में है।",), ("dog",)),
    ("language", {"language": "Korean"}, ("개가 정원에 있다.",), ("犬",)),
    ("language", {"language": "Chinese"}, ("狗在花园里。",), ("犬は庭にいます。",)),
    ("language", {"language": "Japanese"}, ("犬は庭にいます。",), ("狗在花园里。",)),
)
CONSTRAINTS = [{"kind": kind, **arguments} for kind, arguments, _, _ in CASES]


def test_every_kind_and_language_is_tried() -> None:
    assert {kind for kind, *_ in CASES} == set(KINDS)
    assert len(KINDS) == sum(map(len, FAMILIES.values())) >= 25
    assert {each["language"] for each in CONSTRAINTS if each["kind"] == "language"} == set(LANGUAGES)


@pytest.mark.parametrize(
    ("kind", "arguments", "kept", "broken"), CASES, ids=[f"{case[0]}{list(case[1].values())}" for case in CASES]
)
def test_what_keeps_a_constraint_and_what_breaks_it(
    kind: str, arguments: dict[str, Any], kept: tuple[str, ...], broken: tuple[str, ...]
) -> None:
    constraint = {"kind": kind, **arguments}
    check_constraint(constraint)
    assert [text for text in kept if not keeps_constraint(text, constraint)] == []
    assert [text for text in broken if keeps_constraint(text, constraint)] == []


@given(st.text() | st.text("a.*#-|[](){}\"',;1 \n", max_size=60))
def test_any_text_keeps_a_constraint_or_breaks_it(text: str) -> None:
    assert {type(keeps_constraint(text, each)) for each in CONSTRAINTS} == {bool}


@given(st.text("ab.,! \n-1*", max_size=60))
def test_white_space_around_a_text_changes_nothing(text: str) -> None:
    counted = [each for each in CONSTRAINTS if not {"characters"} & each.keys()]
    assert [keeps_constraint(f"\n{text.strip()} \n", each) for each in counted] == [
        keeps_constraint(text.strip(), each) for each in counted
    ]


@pytest.mark.parametrize(
    ("constraint", "sentence"),
    [
        ("words", "must be an object with its 'kind'"),
        ({"exactly": 2}, "must be an object with its 'kind'"),
        ({"kind": "rhymes"}, "no constraint of the kind 'rhymes'; choose one of words, "),
        ({"kind": "words"}, "'words' needs one of exactly, at_least, at_most"),
        ({"kind": "words", "exactly": None}, "'words' needs one of exactly, at_least, at_most"),
        (
            {"kind": "words", "exactly": -1},
            "'exactly' of the constraint 'words' must be a whole number from 0 on, not -1",
        ),
        ({"kind": "words", "at_most": True}, "must be a whole number"),
        ({"kind": "words", "exact": 2}, "'words' has exact, which it does not take; it takes exactly, at_least"),
        ({"kind": "quoted", "mark": "'"}, "which it does not take; it takes none"),
        ({"kind": "include"}, "'include' needs 'words', a list of non-blank texts"),
        ({"kind": "include", "words": []}, "a list of non-blank texts"),
        ({"kind": "include", "words": "tea"}, "a list of non-blank texts"),
        ({"kind": "case", "case": "camel"}, "must be one of lower, upper, title, not 'camel'"),
        ({"kind": "language", "language": "Klingon"}, "must be one of English, German"),
        ({"kind": "initial", "letter": "ab"}, "must be one letter, not 'ab'"),
        ({"kind": "without_letters", "letters": "a1"}, "must be one letter or more"),
        ({"kind": "without", "characters": ""}, "at least one character"),
        ({"kind": "begins", "text": " "}, "must be non-blank text"),
    ],
)
def test_what_is_no_constraint_is_refused(constraint: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_constraint(constraint)


def test_an_argument_without_a_value_is_not_there() -> None:
    constraint = {"kind": "words", "exactly": None, "at_most": 2}
    check_constraint(constraint)
    assert keeps_constraint("one two", constraint)
    assert not keeps_constraint("one two three", constraint)


@pytest.mark.parametrize(
    "unit", ["a ", "a", ". ", ".", "*a", "* ", "[", "(", "|", "- a\n", "\n", " ", '"', "```\n", "1,"]
)
def test_time_grows_with_the_text_and_not_with_its_square(unit: str) -> None:
    text = "x" + unit * (20_000 // len(unit)) + "x"
    for constraint in CONSTRAINTS:
        started = time.thread_time()
        keeps_constraint(text, constraint)
        assert time.thread_time() - started < 0.5, constraint
