"""Items from every place that they can come from, except the Hub."""

import codecs
import csv
import datetime
import decimal
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.config import DataConfig
from quantexp.tasks import TASKS, get_task
from quantexp.tasks.data import load
from quantexp.tasks.data.columns import rename_columns, sources
from quantexp.tasks.data.files import read_rows
from quantexp.tasks.items import Dataset, draw_items
from quantexp.util.errors import UserError

REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "data"

TRIVIAQA = get_task("triviaqa")
GSM8K = get_task("gsm8k")
EXTRACTION = get_task("extraction")
BUNDLED = DataConfig("bundled")

ROW = {"id": "a", "question": "Who?", "aliases": ["Me"]}


def files(path: Path, **columns: Any) -> DataConfig:
    return DataConfig("files", "files", path=str(path), columns=columns)


def jsonl(*rows: dict[str, Any], ensure_ascii: bool = False) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=ensure_ascii) + "\n" for row in rows).encode()


def parquet(table: pa.Table) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    content: bytes = buffer.getvalue().to_pybytes()
    return content


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Write a file."""

    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


Write = Callable[[str, bytes], Path]


# Bundled


@pytest.mark.parametrize("name", sorted(name for name, task in TASKS.items() if task.is_bundled))
def test_bundled_items_load(name: str) -> None:
    data = load(BUNDLED, get_task(name))
    assert len(data.items) >= 40
    assert bool(data.examples) is (name != "long")
    assert not {item.id for item in data.examples} & {item.id for item in data.items}
    assert not {str(item.fields) for item in data.examples} & {str(item.fields) for item in data.items}
    assert all("difficulty" not in item.fields and "id" not in item.fields for item in data.items)
    # A question in eight languages is one question.
    assert len({item.cluster for item in data.items}) == len(data.items) // (8 if name == "languages" else 1)


def test_unknown_data_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.source=cloud is unknown; choose bundled, hub or files\.$"):
        load(DataConfig("mine", "cloud"), TRIVIAQA)


@pytest.mark.parametrize(("source", "key"), [("files", "path"), ("hub", "repository")])
def test_data_that_name_no_place(source: str, key: str) -> None:
    with pytest.raises(UserError, match=rf"data=mine needs data\.{key}; add data\.{key}=VALUE"):
        load(DataConfig("mine", source), TRIVIAQA)


# Files


def test_the_same_rows_in_every_format(written: Write) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "1", "question": "Who, what?", "aliases": ["Me", "É"]},
        {"id": "2", "question": 'A "quote"\nand 007', "aliases": ["2020-01-01"]},
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, ["id", "question", "aliases"])
    writer.writeheader()
    writer.writerows({**row, "aliases": json.dumps(row["aliases"])} for row in rows)
    paths = [
        written("rows.jsonl", jsonl(*rows)),
        written("ascii.jsonl", b"\xef\xbb\xbf" + jsonl(*rows, ensure_ascii=True).replace(b"\n", b"\r\n")),
        written("rows.csv", text.getvalue().encode()),
        written("rows.PARQUET", parquet(pa.Table.from_pylist(rows))),
        written("rows.json", json.dumps(rows, indent=2).encode()),
        written("version.json", json.dumps({"version": 1, "data": rows, "tags": ["a"]}).encode()),
        written("lines.json", jsonl(*rows)),
        written("old-line-ends.jsonl", jsonl(*rows).replace(b"\n", b"\r")),
        written("rows.jsonl.gz", gzip.compress(jsonl(*rows))),
        written("rows.json.GZ", gzip.compress(json.dumps(rows).encode())),
        written("rows.csv.gz", gzip.compress(text.getvalue().encode())),
        *(
            written(f"{encoding}.csv", text.getvalue().encode(encoding))
            for encoding in ("utf-8-sig", "utf-16", "utf-32")
        ),
        written("big-endian.jsonl", codecs.BOM_UTF16_BE + jsonl(*rows).decode().encode("utf-16-be")),
    ]
    for separator in "\t;|":
        other = io.StringIO()
        writer = csv.DictWriter(other, ["id", "question", "aliases"], delimiter=separator)
        writer.writeheader()
        writer.writerows({**row, "aliases": json.dumps(row["aliases"])} for row in rows)
        paths.append(written(f"separated-{ord(separator)}.csv", other.getvalue().encode()))
        paths.append(
            written(f"said-{ord(separator)}.csv", f"sep={separator}\r\n{other.getvalue()}".encode("utf-8-sig"))
        )
        if separator == "\t":
            paths.append(written("rows.tsv", other.getvalue().encode()))
    first, *others = [load(files(path), TRIVIAQA) for path in paths]
    assert [item.fields for item in first.items] == [
        {"question": "Who, what?", "aliases": ["Me", "É"]},
        {"question": 'A "quote"\nand 007', "aliases": ["2020-01-01"]},  # nothing makes numbers or dates of text
    ]
    assert all((other.items, other.fingerprint) == (first.items, first.fingerprint) for other in others)
    assert first.examples == load(BUNDLED, TRIVIAQA).examples
    assert [each.file for each in (first, *others)] == [path.name for path in paths]


def test_what_separates_cells_is_told_where_it_is_no_comma(written: Write, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        for name, separator in (("a.csv", ","), ("b.csv", ";"), ("c.csv", "\t"), ("d.tsv", "\t")):
            content = f'question{separator}aliases\n"Who; or, what?"{separator}"[""Me""]"\n'
            assert (
                load(files(written(name, content.encode())), TRIVIAQA).items[0].fields["question"] == "Who; or, what?"
            )
        load(files(written("e.json", json.dumps({"rows": [ROW]}).encode())), TRIVIAQA)
    assert caplog.messages == [
        "b.csv: its cells are separated by semicolons",
        "c.csv: its cells are separated by tabs",
        "e.json: its rows are the list 'rows'",
    ]


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1).filter(
    lambda cell: not cell.startswith(("[", "\ufeff"))
)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1), st.sampled_from(",;\t|"), st.sampled_from(["", "sep"]))
def test_a_csv_file_comes_back_whatever_separates_its_cells(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], separator: str, said: str
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL)
    writer.writerows([("question", "answer"), *rows])
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(f"{f'sep={separator}' if said else ''}\n{text.getvalue()}".lstrip("\n").encode())
    assert read_rows(str(path), "data.path") == [{"question": one, "answer": other} for one, other in rows]


def test_unicode_line_separators_do_not_split_a_row(written: Write) -> None:
    question = "One\u2028two\u2029three\u0085four\x0bfive\x0csix\x1cseven?"
    rows = [{**ROW, "question": question}, {**ROW, "id": "b"}]
    plain = load(files(written("rows.jsonl", jsonl(*rows))), TRIVIAQA)
    assert [item.fields["question"] for item in plain.items] == [question, "Who?"]


def test_rows_without_an_id_are_numbered(written: Write) -> None:
    rows: list[dict[str, Any]] = [
        {"question": "Who?", "aliases": ["Me"]},
        {"question": "What?", "aliases": ["It"], "difficulty": 3},
    ]
    data = load(files(written("rows.jsonl", jsonl(*rows))), TRIVIAQA)
    assert [(item.id, item.difficulty) for item in data.items] == [("1", None), ("2", 3)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", b'id,question,aliases,difficulty\n,Who?,"[""Me""]",\n,What?,"[""It""]",3\n'),
        ("rows.jsonl", jsonl({**ROW, "id": None}, {**ROW, "id": "", "difficulty": 3})),
    ],
)
def test_an_empty_id_is_none(written: Write, name: str, content: bytes) -> None:
    data = load(files(written(name, content)), TRIVIAQA)
    assert [(item.id, item.difficulty) for item in data.items] == [("1", None), ("2", 3)]


def test_a_difficulty_that_is_none_can_be_left_out(written: Write) -> None:
    path = written("rows.jsonl", jsonl({**ROW, "difficulty": "hard"}))
    [item] = load(files(path, difficulty=None), TRIVIAQA).items
    assert item.difficulty is None


def test_values_that_json_does_not_have_are_text(written: Write) -> None:
    when, blob = datetime.datetime(2024, 1, 2, 3, 4, tzinfo=datetime.UTC), b"\xff"
    rows = [{**ROW, "when": when, "more": [{"blob": blob, "day": when.date()}], "cost": decimal.Decimal("1.50")}]
    path = written("rows.parquet", parquet(pa.Table.from_pylist(rows)))
    data, again = load(files(path), TRIVIAQA), load(files(path), TRIVIAQA)
    assert dict(data.items[0].fields) == {
        "question": "Who?",
        "aliases": ["Me"],
        "when": "2024-01-02 03:04:00+00:00",
        "more": [{"blob": r"b'\xff'", "day": "2024-01-02"}],
        "cost": "1.50",
    }
    assert data.fingerprint == again.fingerprint
    later = [{**rows[0], "when": when.replace(year=2025)}]
    assert (
        load(files(written("b.parquet", parquet(pa.Table.from_pylist(later)))), TRIVIAQA).fingerprint
        != data.fingerprint
    )


def test_a_field_of_the_task_is_not_made_text(written: Write) -> None:
    path = written("rows.parquet", parquet(pa.Table.from_pylist([{**ROW, "question": b"Who?"}])))
    with pytest.raises(UserError, match="item a: the field 'question' must be non-blank text, not b'Who"):
        load(files(path), TRIVIAQA)


@pytest.mark.parametrize("cell", [{"x": 1}, [["Me"]]])
def test_a_list_of_columns_with_objects_or_lists_in_them(written: Write, cell: Any) -> None:
    path = written("rows.jsonl", jsonl({"question": "Who?", "a": cell, "b": "Me", "c": cell}))
    with pytest.raises(UserError, match=r"item 1: the field 'aliases' must hold non-blank texts of one line, not "):
        load(files(path, aliases=["a", "b", "c"]), TRIVIAQA)


def test_a_dot_in_the_name_of_a_column(written: Write) -> None:
    path = written("rows.csv", b'q.text,q,aliases\nWho?,unused,"[""Me""]"\n')
    [item] = load(files(path, question="q.text"), TRIVIAQA).items
    assert item.fields == {"question": "Who?", "q": "unused", "aliases": ["Me"]}


def test_a_file_that_changes_is_read_again(written: Write) -> None:
    path = written("rows.jsonl", jsonl(ROW))
    before = load(files(path), TRIVIAQA)
    written("rows.jsonl", jsonl(ROW, {**ROW, "id": "b"}))
    after = load(files(path), TRIVIAQA)
    assert (len(before.items), len(after.items)) == (1, 2)
    assert before.fingerprint != after.fingerprint


def test_columns_of_other_names(written: Write) -> None:
    row = {"key": "q1", "ask": {"text": "Who?"}, "answer": "Me", "also": ["I", None, " ", "Me"], "notes": "kept"}
    path = written("rows.jsonl", jsonl(row))
    columns = {"id": "key", "question": "ask.text", "aliases": ["answer", "also"]}
    [item] = load(files(path, **columns), TRIVIAQA).items
    assert item.id == "q1"
    assert item.fields == {"question": "Who?", "aliases": ["Me", "I"], "notes": "kept"}


def test_own_worked_examples(written: Write) -> None:
    path = written("rows.jsonl", jsonl(ROW))
    examples = written("examples.jsonl", jsonl({**ROW, "question": "How?"}))
    data = load(DataConfig("files", "files", path=str(path), examples=str(examples)), TRIVIAQA)
    assert [item.fields["question"] for item in data.examples] == ["How?"]


def test_an_empty_cell_is_null_where_a_task_allows_it(written: Write) -> None:
    header = "email,customer_name,issue_category,urgency,requested_action\n"
    path = written("mails.csv", f"{header}Where is it?,,shipping,low,Say where it is.\n".encode())
    [item] = load(files(path), EXTRACTION).items
    assert item.fields["customer_name"] is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "rows.xlsx",
            b"x",
            r"rows\.xlsx: a spreadsheet is not read as it is; save its sheet as CSV \(UTF-8\), and give that file\.$",
        ),
        (
            "rows.yaml",
            b"x",
            r"rows\.yaml: the file's name must end in one of \.jsonl, \.ndjson, \.json, \.csv, \.tsv, \.txt, \.raw, "
            r"\.parquet; all but the last may end in \.gz too\.$",
        ),
        ("rows.csv.zip", b"PK", r"rows\.csv\.zip: it is packed; unpack it, and give the file that was in it\.$"),
        ("rows.parquet.gz", b"x", r"rows\.parquet\.gz: it is packed; unpack it,"),
        ("rows.jsonl.gz", b"no", r"rows\.jsonl\.gz is not a whole gzip file \(.*\); make it again\.$"),
        (
            "rows.jsonl.gz",
            gzip.compress(jsonl(ROW), mtime=0)[:-9],
            r"rows\.jsonl\.gz is not a whole gzip file \(.*\); make",
        ),
        ("rows.jsonl.gz", gzip.compress(b"{", mtime=0), r"rows\.jsonl\.gz: line 1 is not JSON"),
        (
            "rows.jsonl",
            json.dumps([ROW], indent=1).encode(),
            r"rows\.jsonl: it is one JSON list and no JSON lines; call",
        ),
        ("rows.json", b"[1]", r"rows\.json: it is not a JSON list of objects, nor an object with one such list; write"),
        (
            "rows.json",
            b'{"a": [{}], "b": [{}]}',
            r"rows\.json: it is not a JSON list of objects, nor an object with one",
        ),
        ("rows.json", b'{"question": {"0": "Who?"}}', r"rows\.json: it is not a JSON list of objects, nor an object"),
        ("rows.json", b"5", r"rows\.json: it is not a JSON list of objects, nor"),
        ("rows.json", b'[{"a": 1', r"rows\.json: it is not JSON \(.*\)\.$"),
        ("rows.json", b"[" * 100_000, r"rows\.json: it is not JSON \(.*\)\.$"),
        ("rows.json", b'[{"a": 1, "a": 2}]', r"rows\.json: the column 'a' occurs twice; give every column its own"),
        ("rows.json", b'{"a": 1}\n{"a": 1, "a": 2}', r"rows\.json: line 2: the column 'a' occurs twice"),
        ("rows.json", b"[]", r"rows\.json has no rows\.$"),
        (
            "rows.csv",
            "a,b\n1,2\n".encode("utf-16-le"),
            r"rows\.csv is not UTF-8 text \(byte 1: no text, or UTF-16\); c",
        ),
        ("rows.csv", b"\xff\xfea", r"rows\.csv is not UTF-16-LE text \(byte 0: .*\); convert it to UTF-8\.$"),
        ("rows.csv", b"a;b\n1;2\n1;2;3\n", r"rows\.csv: line 3 has not as many cells as the first one\.$"),
        ("rows.csv", b"sep=;\na;b\n1;2;3\n", r"rows\.csv: line 2 has not as many cells as the first one\.$"),
        ("rows.tsv", b"question,aliases\nWho?,Me\n", r"rows\.tsv has no columns 'question', 'aliases'; name"),
        ("rows.jsonl", b"", r"rows\.jsonl has no rows\.$"),
        ("rows.csv", b"question,aliases\n", r"rows\.csv has no rows\.$"),
        ("rows.jsonl", jsonl(ROW) + b'{"a": 1', r"rows\.jsonl: line 2 is not JSON \(.*\)\.$"),
        ("rows.jsonl", b"[1]\n", r"rows\.jsonl: line 1 is not a JSON object\.$"),
        ("rows.jsonl", b"[" * 100_000, r"rows\.jsonl: line 1 is not JSON \(.*\)\.$"),
        (
            "rows.jsonl",
            b'{"question": "\xff"}',
            r"rows\.jsonl is not UTF-8 text \(byte 14: .*\); convert it to UTF-8\.$",
        ),
        ("rows.csv", b"a,b\n1,2\n1,2,3\n", r"rows\.csv: line 3 has not as many cells as the first one\.$"),
        (
            "rows.csv",
            b"question,aliases,aliases\nWho?,Me,You\n",
            r"rows\.csv: the column 'aliases' occurs twice; give every",
        ),
        (
            "rows.jsonl",
            b'{"question": "Who?", "aliases": ["Me"], "aliases": ["You"]}\n',
            r"rows\.jsonl: line 1: the column 'aliases' occurs twice; give every column its own name\.$",
        ),
        (
            "rows.parquet",
            parquet(pa.table([["a"], ["b"]], ["x", "x"])),
            r"rows\.parquet: the column 'x' occurs twice; give",
        ),
        (
            "rows.csv",
            b"question,,\nWho?,,\n",
            r"rows\.csv: the column '' occurs twice; give every column its own name\.$",
        ),
        ("rows.csv", b'a,b\n"1,2\n', r"rows\.csv: line \d is not CSV \(.*\)\.$"),
        ("rows.parquet", b"PAR1 no", r"rows\.parquet: it is not a whole Parquet file \(.*\)\.$"),
        ("rows.jsonl", jsonl(ROW, {**ROW, "id": "b"}, ROW), r"rows\.jsonl: the id a occurs twice; give every item"),
        ("rows.jsonl", jsonl(ROW, {"id": "bad", "question": "?", "aliases": []}), r"rows\.jsonl, item bad: .*aliases"),
        ("rows.jsonl", jsonl({**ROW, "question": "\ud800?"}, ensure_ascii=True), r"item a: it holds half a character"),
        (
            "rows.jsonl",
            jsonl(ROW, {"id": "b", "question": "Who?"}),
            r"rows\.jsonl, row 2, has no column 'aliases'; name the one .* \(its columns: id, question\)\.$",
        ),
        (
            "rows.csv",
            b"ask\x1b[31m,answer\nWho?,Me\n",
            r"rows\.csv has no columns 'question', 'aliases'; name the ones that hold them, as in data\.columns="
            r"'\{question: COLUMN, aliases: COLUMN\}' \(its columns: ask\\x1b\[31m, answer\)\.$",
        ),
        ("rows.jsonl", jsonl({**ROW, "id": "\x1b[31ma\nb", "aliases": []}), r"item \\x1b\[31ma b: .*aliases"),
        ("rows.jsonl", jsonl(*[{**ROW, "id": "\x07a"}] * 2), r"the id \\x07a occurs twice"),
        *(
            (
                "rows.jsonl",
                jsonl({**ROW, "difficulty": bad}),
                r"item a: the field 'difficulty' must be null or a whole number from 1 to 5, not .*; to do without it, "
                r"add data\.columns='\{difficulty: null\}'\.$",
            )
            for bad in ("hard", 0, 6, True, 2.5, [1], "07")
        ),
        (
            "rows.jsonl",
            jsonl({"id": "a", "question": "Who?"}),
            r"rows\.jsonl has no column 'aliases'; name the one that holds it, as in "
            r"data\.columns='\{aliases: COLUMN\}' \(its columns: id, question\)\.$",
        ),
    ],
)
def test_a_bad_file_gets_one_sentence(written: Write, name: str, content: bytes, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        load(files(written(name, content)), TRIVIAQA)
    assert "\n" not in str(refused.value)
    assert name in str(refused.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"data\.path=.*absent\.jsonl is not a file; give a path, absolute or relative to"
    ):
        load(files(tmp_path / "absent.jsonl"), TRIVIAQA)
    hinted = DataConfig("hub", "files", path="absent.jsonl", hint="make it")
    with pytest.raises(UserError, match=r"data\.path=absent\.jsonl is not a file; make it\.$"):
        load(hinted, EXTRACTION)


def test_no_such_column(written: Write) -> None:
    path = written("rows.jsonl", jsonl(ROW))
    with pytest.raises(UserError, match=r"data\.columns names asked\.text, which .*rows\.jsonl has not"):
        load(files(path, question="asked.text"), TRIVIAQA)


# Columns

NAMES = st.sampled_from("abcde")
VALUES = st.none() | st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=3)


@given(st.dictionaries(NAMES, VALUES, min_size=1), st.data())
def test_a_renamed_row_holds_what_the_columns_held(row: dict[str, Any], data: st.DataObject) -> None:
    have = st.sampled_from(sorted(row))
    columns = data.draw(st.dictionaries(st.sampled_from("pqr"), have | st.lists(have, min_size=1, max_size=3)))
    made = rename_columns(row, columns, columns, "here")
    for field, column in columns.items():
        if isinstance(column, list):
            every = [one for each in column for one in (row[each] if isinstance(row[each], list) else [row[each]])]
            assert made[field] == list(dict.fromkeys(one for one in every if one is not None and one.strip()))
        else:
            assert made[field] == row[column]
    taken = set(sources((), columns))
    assert {key: value for key, value in made.items() if key not in columns} == {
        key: value for key, value in row.items() if key not in taken
    }


# The public data sets, as their authors published them


def real(task: str, *path: str) -> Dataset:
    where = REFERENCE.joinpath(*path)
    if not where.is_file():
        pytest.skip(f"{where} is not here")
    return load(files(where), get_task(task))


def test_gsm8k_loads_whole() -> None:
    data = real("gsm8k", "gsm8k", "test.jsonl")
    assert len(data.items) == 1319
    assert len({item.cluster for item in data.items}) == 1319  # no question twice
    assert [item.id for item in data.items[:2]] == ["1", "2"]
    # Which 200 of GSM8K's test items each seed asks: never to change, or the experiment is another one.
    draws = [[item.id for item in draw_items(data.items, seed, 200)] for seed in (0, 1, 2)]
    assert [draw[:5] for draw in draws] == [
        ["392", "942", "404", "87", "1023"],
        ["1312", "819", "1149", "989", "691"],
        ["1028", "1029", "960", "828", "1196"],
    ]
    assert [len(set(draw)) for draw in draws] == [200, 200, 200]
    assert len(set().union(*draws)) == 513


def test_triviaqa_loads_whole() -> None:
    data = real("triviaqa", "triviaqa", "dev_unfiltered_first3000.jsonl")
    assert len(data.items) == 3000
    assert all(item.fields["aliases"] for item in data.items)
    assert len({item.cluster for item in data.items}) == 3000  # its duplicates come with rc.nocontext only
