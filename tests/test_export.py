"""`quantexp.export` and `quantexp.reproduce`: a sweep published, and run again by somebody else."""

import csv
import json
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from tests.support.stores import runs_of

from quantexp.comparison.publication import hash_content, read_publication

Command = Callable[..., tuple[int, str, str]]

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def exported(swept: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the shared sweep's results, as they are published."""
    folder = tmp_path_factory.mktemp("exported")
    told = ("url=https://example.org/m", "author=A. Author", "benchmarks={triviaqa: owner/trivia:qa}")
    status, out, err = command(folder, "quantexp.export", f"tracking.folder={swept}/mlruns", *told)
    assert (status, err) == (0, ""), err
    assert "extraction is in no .eval_results file: its items are not a benchmark's of the Hub" in out
    assert "exported 4 conditions: export/model-card.md, export/results.json" in out
    yield folder / "export"
    shutil.rmtree(folder)


def test_nothing_that_is_published_names_the_machine(exported: Path, swept: Path, cache: Path) -> None:
    texts = [path.read_text() for path in exported.rglob("*") if path.suffix not in (".png", ".svg") and path.is_file()]
    assert len(texts) == 6
    for text in texts:
        for private in (str(swept), str(cache), str(exported), platform.node() + '"'):
            assert private not in text


def test_json_has_all_that_the_schema_says(exported: Path) -> None:
    schema = json.loads((DOCS / "reference" / "export.schema.json").read_text())
    content = json.loads((exported / "results.json").read_text())
    found = read_publication(exported / "results.json")
    assert content.keys() == schema["properties"].keys() == set(schema["required"])
    assert [len(job.answers.item) for job in found.jobs] == [3] * 4
    assert {job.software.library.split()[0] for job in found.jobs} == {"llama-cpp-python"}
    assert found.command is not None
    assert "quant=Q8_0,Q3_K_M task=triviaqa,extraction seed=0 task.limit=3" in found.command


def test_a_validator_of_json_schema_accepts_it(exported: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")  # comes with Ray
    schema = json.loads((DOCS / "reference" / "export.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads((exported / "results.json").read_text()))


def test_a_row_a_condition_and_task(exported: Path) -> None:
    rows = list(csv.DictReader((exported / "results.csv").read_text().splitlines()))
    assert [(row["task"], row["condition"]) for row in rows] == [
        (task, quant) for task in ("triviaqa", "extraction") for quant in ("Q8_0", "Q3_K_M")
    ]
    assert [bool(row["loss"]) for row in rows] == [False, True] * 2
    page = (DOCS / "how-to" / "publish.md").read_text().partition("## results.csv")[2]
    documented = [name for line in page.splitlines() for name in re.findall(r"`(\w+)`", line.partition(" | ")[0])]
    assert sorted(documented) == sorted(rows[0])


def test_the_hub_reads_its_files(exported: Path) -> None:
    files = sorted((exported / ".eval_results").iterdir())
    assert [path.name for path in files] == ["triviaqa_Q3_K_M.yaml", "triviaqa_Q8_0.yaml"]
    [entry] = parse_eval_result_entries(yaml.safe_load(files[1].read_text()))
    assert (entry.dataset_id, entry.task_id, entry.source_url) == ("owner/trivia", "qa", "https://example.org/m")
    assert 0 <= entry.value <= 100
    assert entry.notes is not None
    assert entry.notes.startswith("Q8_0, 1-shot, 3 items, grader triviaqa-v1")


def test_a_card_and_a_citation(exported: Path) -> None:
    card = (exported / "model-card.md").read_text()
    assert card.startswith("## Quantization quality\n\n**Q3_K_M")
    for said in ("### triviaqa", "| Q8_0 | 8.51 | 144.8 |", "](score_vs_bits.png)", "Protocol: quantexp ", "```sh"):
        assert said in card
    assert (exported / "score_vs_bits.png").is_file()
    citation = (exported / "citation.bib").read_text()
    assert re.findall(r"^@(\w+)\{([\w-]+),$", citation, flags=re.MULTILINE)[0] == ("software", "quantexp")
    assert "author = {A. Author}," in citation
    assert citation.count("{") == citation.count("}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["benchmarks={gsm8k: a/b:c}"], "benchmarks.gsm8k: there is no such task here; choose one of triviaqa"),
        (["benchmarks={triviaqa: nothing}"], "nothing is no benchmark; write OWNER/DATASET:TASK"),
        (["sweep=nothing"], "There is no run nothing"),
    ],
)
def test_a_wrong_word_of_an_export_is_a_sentence(
    swept: Path, command: Command, tmp_path: Path, words: list[str], said: str
) -> None:
    status, _, err = command(tmp_path, "quantexp.export", f"tracking.folder={swept}/mlruns", *words)
    assert (status, "Traceback" in err) == (2, False)
    assert said in err
    assert not (tmp_path / "export").exists()


def _sealed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a published file as a forger would, who knows how it is sealed."""
    content = json.loads(path.read_text())
    change(content)
    content["sha256"] = hash_content(content)
    path.write_text(json.dumps(content))


def test_one_run_is_published_and_run_again(swept: Path, command: Command, tmp_path: Path, cache: Path) -> None:
    of_task = [run for run in runs_of(swept, "job") if run.data.tags["task"] == "triviaqa"]
    [one] = [run.info.run_id for run in of_task if run.data.tags["quant"] == "Q3_K_M"]
    status, _, err = command(tmp_path, "quantexp.export", f"tracking.folder={swept}/mlruns", f"runs=[{one}]")
    assert status == 0, err
    published = tmp_path / "export" / "results.json"
    here = ("threads=1", f"places={{model.cache: {cache}}}")
    status, out, err = command(tmp_path, "quantexp.reproduce", str(published), *here)
    assert status == 0, err
    assert out.splitlines() == [
        "agrees: Q3_K_M on triviaqa: all 3 completions are the published ones, to the byte",
        "the results agree with the published ones: 1 of 1 conditions agree",
    ]

    def forge(content: dict[str, Any]) -> None:
        content["jobs"][0]["answers"]["completion"][0] = "0" * 16

    _sealed(published, forge)
    status, out, _ = command(tmp_path, "quantexp.reproduce", str(published), *here)
    assert status == 1
    assert out.startswith(
        "DIFFERS: Q3_K_M on triviaqa: 2 of 3 completions are the published ones, to the byte, and all"
    )

    def rebuild(content: dict[str, Any]) -> None:
        content["jobs"][0]["software"]["build"] = "0" * 16

    _sealed(published, rebuild)
    status, out, _ = command(tmp_path, "quantexp.reproduce", str(published), *here)
    assert status == 3
    assert "(another build of llama.cpp); published - here: 0.0 [" in out

    def exchange(content: dict[str, Any]) -> None:
        content["jobs"][0]["identity"]["model"]["source"] = "0" * 64

    _sealed(published, exchange)
    status, out, err = command(tmp_path, "quantexp.reproduce", str(published), *here)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert "hashes to" in err


def test_what_is_missing_is_a_sentence(exported: Path, command: Command, tmp_path: Path) -> None:
    def local(content: dict[str, Any]) -> None:
        for job in content["jobs"]:
            job["settings"]["model"] |= {"source": "path", "path": "mine.gguf"}
            del job["settings"]["model"]["quantize"]

    shutil.copy(exported / "results.json", tmp_path)
    for words, said in (
        ([], "Name the published file"),
        (["nothing.json"], "nothing.json is not there"),
        (["results.json", "margin=2"], "margin=2"),
        (["results.json", "results.json"], "one file at a time"),
        (["results.json", "places={engine.context: 1}"], "places: engine.context does not say where something is"),
    ):
        status, _, err = command(tmp_path, "quantexp.reproduce", *words)
        assert (status, "Traceback" in err) == (2, False), err
        assert said in err
    _sealed(tmp_path / "results.json", local)
    status, _, err = command(tmp_path, "quantexp.reproduce", "results.json")
    assert status == 2
    assert "model.path=mine.gguf is not a file" in err
