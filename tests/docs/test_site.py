"""What the documentation's pages are made from: every key with its meaning, figures that show what is computed."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from making import MARK, TABLES, filled
from making import figures as drawn
from making.keys import commands, first_sentence, groups
from omegaconf import OmegaConf
from published import CELLS

from quantexp.config import Config
from quantexp.config.hydra_schemas import register_schemas
from quantexp.config.reference import CONF, SCHEMAS, in_words, list_keys, read_description
from quantexp.report.svg import SIGNS
from quantexp.stats import Verdict, required_items, required_items_within, tango_interval
from quantexp.tasks import TASKS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


@dataclass
class Silent:
    """A section whose key says nothing of itself."""

    key: int = 0


def leaves(node: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield from leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else [f"{prefix}{key}"]


def rows(markdown: str) -> dict[str, list[str]]:
    """The cells of each row of a page's tables, without backticks, by its first."""
    found = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in markdown.splitlines() if line.startswith("| `")]
    return {cells[0].split("`")[1]: [cell.strip("`") for cell in cells] for cells in found}


def test_every_key_of_a_job_is_there_with_its_meaning() -> None:
    there = rows(groups())
    structured = OmegaConf.to_container(OmegaConf.structured(Config))
    assert isinstance(structured, dict)
    every = list(leaves(structured))
    assert len(every) > 60
    for key in every:
        assert len(there[key]) == 4
        assert there[key][3], key
    for option in CONF.glob("*/*.yaml"):
        if option.parent.name == "task.sampling":
            continue  # another spelling of task/sampling, which stands above the tables
        assert len(there[option.stem]) == 2


def test_every_verdict_and_its_sign_are_explained() -> None:
    page = (DOCS / "how-to" / "read-report.md").read_text(encoding="utf-8")
    for verdict, sign in SIGNS.items():
        assert f"| {verdict.value} |" in page
        assert f"{sign} {verdict.value}" in page


def test_every_command_has_its_keys() -> None:
    assert set(SCHEMAS) == {file.stem for file in CONF.glob("*.yaml")}
    there = commands()
    for name, kind in SCHEMAS.items():
        if name == "config":
            continue
        assert f"## quantexp.{name}\n" in there
        for key in list_keys(kind, "", [CONF / f"{name}.yaml"]):
            assert f"| `{key.name}` |" in there
    assert "[`model`]" not in there, "the model of generate_extraction is not the group"
    assert "| `model.name` | text | `gpt-4o-mini` |" in there


def test_defaults_are_those_that_are_used() -> None:
    register_schemas()
    with initialize_config_module("quantexp.conf", version_base="1.3"):
        composed = compose("config")
    there = rows(groups())
    tried = 0
    for key, cells in there.items():
        # The default option of these may set another.
        if (
            len(cells) < 4
            or key.startswith(("model.", "quant.", "task.", "data.", "engine.name", "engine.context"))
            or "NAME" in key
        ):
            continue
        default = cells[2]
        value = OmegaConf.select(composed, key)
        if "${" in default:
            assert OmegaConf.select(composed, default[2:].partition("}")[0]) is not None
        else:
            assert OmegaConf.create(f"v: {default}").v == getattr(value, "name", value), key
        tried += 1
    assert tried > 25
    assert there["task.limit"][2] == "${data.limit}"
    assert there["model.context"][2] == "4096", "not the context of the one model that has less"
    assert there["task.max_tokens"][2] == "—"


def test_a_key_that_says_nothing_is_refused() -> None:
    with pytest.raises(LookupError, match=r"Silent\.key has no string below it"):
        read_description(Silent, "key")
    with pytest.raises(TypeError, match="has no words yet"):
        in_words(bytes)


def test_an_option_says_its_first_sentence(tmp_path: Path) -> None:
    file = tmp_path / "option.yaml"
    file.write_text("# @package _global_\n# Run: python\n#\n# What it is (a thing; really)\n# and no more. Further.\n")
    assert first_sentence(file) == "What it is (a thing; really) and no more."
    file.write_text("# Any file:\n#   command\n# Else.\n")
    assert first_sentence(file) == "Any file"


def test_pages_name_tables_that_are_made_and_all_are_used() -> None:
    named = [mark for page in PAGES for mark in MARK.findall(page.read_text())]
    assert sorted(named) == sorted(TABLES)
    for page in PAGES:
        assert "<!-- made" not in filled(page.read_text()), page
    for name, task in TASKS.items():
        for grader in task.graders.values():
            assert f"| `{name}` | `{grader.name}`" in TABLES["graders"]()


def sentences_of_the_program() -> list[str]:
    """Every text in the program, with … for what is filled in."""
    found = []
    for path in sorted((DOCS.parent / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Constant(value=str(text)):
                    found.append(text)
                case ast.JoinedStr(values=parts):
                    found.append("".join(str(each.value) if isinstance(each, ast.Constant) else "…" for each in parts))
    return [re.sub(r"%[sd]|\{\w+\}", "…", text) for text in found]


def test_errors_are_listed_by_the_sentences_that_are_printed() -> None:
    page = (DOCS / "how-to" / "trouble.md").read_text(encoding="utf-8")
    listed = [cells[0] for cells in rows(page.partition("## Errors by their sentence")[2]).values()]
    assert len(listed) > 40
    printed = sentences_of_the_program()
    for message in listed:
        pattern = re.compile(".*".join(re.escape(part) for part in message.split("…")), flags=re.DOTALL)
        assert any(pattern.search(text) for text in printed), message


def test_the_glossary_is_in_order_and_has_every_verdict() -> None:
    page = (DOCS / "reference" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^- \*\*(.+?)\*\*: ", page, flags=re.MULTILINE)
    assert terms == sorted(set(terms), key=str.casefold)
    assert len(terms) > 40
    [verdicts] = re.findall(r"^- \*\*verdict\*\*: (.*(?:\n  .*)*)", page, flags=re.MULTILINE)
    for verdict in Verdict:
        assert f"*{verdict.value}*" in " ".join(verdicts.split())


def test_figures_are_drawn_alike_each_time(tmp_path: Path) -> None:
    first, second = (drawn.draw_all(tmp_path / name) for name in ("one", "two"))
    assert [path.name for path in first] == [f"{name}.svg" for name in drawn.FIGURES]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    shown = re.findall(r"\]\(\.\./figures/(\w+)\.svg\)", (DOCS / "explanation" / "pictures.md").read_text())
    assert sorted(shown) == sorted(drawn.FIGURES)


def test_what_is_said_of_the_figures() -> None:
    page = " ".join((DOCS / "explanation" / "pictures.md").read_text().split())
    example = drawn.EXAMPLE
    right = (example["both"] + example["lost"], example["both"] + example["gained"])
    apart = drawn.independent_interval(right, example["n"])
    paired = tango_interval(example["lost"], example["gained"], example["n"])
    assert f"from {-100 * apart[0]:.1f} points better to {100 * apart[1]:.1f} worse if the two" in page
    assert f"from {100 * paired[0]:.1f} to {100 * paired[1]:.1f} points worse if they are paired" in page
    assert (paired[1] - paired[0]) / (apart[1] - apart[0]) == pytest.approx(0.5, abs=0.05)

    cases, decisions = drawn.verdict_cases()
    assert [decision.verdict for decision in decisions] == [
        Verdict.within_margin,
        Verdict.worse,
        Verdict.worse_within_margin,
        Verdict.inconclusive,
    ]
    assert cases[3].low > 0, "whose own interval just excludes 0"

    found, shown = required_items(0.02, 0.05), required_items_within(0.02, 0.05)
    assert f"{found} items find a drop of two points, and {shown} show that there is no such drop" in page
    for few, many in ((found, required_items(0.01, 0.05)), (shown, required_items_within(0.01, 0.05))):
        assert many / few == pytest.approx(4, abs=0.2)

    lowest = {name: min(points, key=lambda point: point[1]) for name, points in drawn.coverages().items()}
    highest = max(covered for _, covered in drawn.coverages()["Tango"])
    assert f"stays between {100 * lowest['Tango'][1]:.0f} and {100 * highest:.0f}%" in page
    assert f"bootstrap falls to {100 * lowest['percentile bootstrap'][1]:.0f}% at a small drop" in page
    drop, covered = lowest["Wald"]
    assert f"Wald's interval to {100 * covered:.0f}% at a drop of {100 * drop:.1f} points" in page

    for cell in CELLS:
        assert re.search(rf"{cell.task}: .*{cell.quant} (lost )?{cell.b} and (gained )?{cell.c}", page), cell


def test_an_interval_of_separate_samples() -> None:
    # Newcombe (1998), table II, method 10.
    assert drawn.independent_interval((9, 3), 10) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert drawn.independent_interval((10, 0), 10) == pytest.approx((0.6075, 1.0), abs=5e-5)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_lines_are_wrapped(page: Path) -> None:
    long = [line for line in page.read_text(encoding="utf-8").splitlines() if len(line) > 150]
    assert not [line for line in long if not line.startswith(("|", "    "))]  # a table's row, a command


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_of_pages_that_are_not_on_the_site(page: str) -> None:
    root = DOCS.parent
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#([^)]*))?\)", (root / page).read_text(encoding="utf-8"))
    assert links
    for target, anchor in links:
        assert (root / target).exists(), target
        headings = re.findall(r"^#+ (.*)", (root / target).read_text(), flags=re.MULTILINE) if anchor else []
        assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}, (target, anchor)
