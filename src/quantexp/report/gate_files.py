"""A gate's rulings in files: Markdown for a pull request, JUnit XML and JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from quantexp.comparison.policy import Ruling, Status, decide_gate
from quantexp.comparison.summary import Comparison, Pooled, Summary
from quantexp.config import PolicyConfig
from quantexp.report.columns import Grid
from quantexp.report.markdown import escape, write_table
from quantexp.util.files import write_atomically
from quantexp.util.terminal import printable

SCHEMA = 1
"""Version of gate.json (docs/reference/gate.schema.json)."""

SIGNS: Mapping[Status, str] = {Status.passed: "pass", Status.failed: "FAIL", Status.inconclusive: "cannot tell"}
"""What people read of a status."""


def write_gate(
    folder: Path, summary: Summary, policy: PolicyConfig, rulings: Sequence[Ruling], version: str
) -> list[Path]:
    """Write gate.md, gate.xml and gate.json.

    Raises:
        OSError: the folder or a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "gate.md": gate_markdown(summary, rulings),
        "gate.xml": gate_junit(rulings, blocks=policy.blocks),
        "gate.json": gate_json(summary, policy, rulings, version),
    }
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in files]


def describe_ruling(ruling: Ruling, *, with_model: bool = False) -> str:
    """Write a ruling as a line, with the model where there are several."""
    of = f"of {ruling.model}" if with_model and ruling.model else ""
    where = " ".join(filter(None, (ruling.condition, of, f"on {ruling.task}" if ruling.task else "")))
    about = f"{where}, {ruling.rule}" if where else ruling.rule
    return printable(f"{SIGNS[ruling.status]}: {about}: {ruling.reason}")


def gate_markdown(summary: Summary, rulings: Sequence[Ruling]) -> str:
    """Write the outcome and a table with a line a rule, in GitHub's dialect."""
    rows = tuple(
        (SIGNS[each.status], each.model, each.task, each.condition, each.rule, each.reason) for each in rulings
    )
    grid = Grid(("", "model", "task", "condition", "rule", "because"), "llllll", rows)
    outcome = SIGNS[decide_gate(rulings)]
    about = f"{escape(summary.title)}; the baseline is {escape(summary.baseline)}."
    return "\n\n".join([f"## Quantization gate: {outcome}", about, write_table(grid)]) + "\n"


def gate_junit(rulings: Sequence[Ruling], *, blocks: bool) -> str:
    """Write the rulings as JUnit XML: what cannot be told is an error if it blocks, and skipped otherwise."""
    suite = ElementTree.Element("testsuite", name="quantexp.gate", tests=str(len(rulings)))
    counts = {"failures": 0, "errors": 0, "skipped": 0}
    for each in rulings:
        where = f"{each.model}.{each.task}".strip(".") or "quantexp"
        case = ElementTree.SubElement(
            suite, "testcase", classname=_clean(where), name=_clean(f"{each.condition} {each.rule}".strip())
        )
        kind = {
            Status.passed: None,
            Status.failed: ("failure", "failures"),
            Status.inconclusive: ("error", "errors") if blocks else ("skipped", "skipped"),
        }[each.status]
        if kind is not None:
            ElementTree.SubElement(case, kind[0], message=_clean(each.reason))
            counts[kind[1]] += 1
    for name, count in counts.items():
        suite.set(name, str(count))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    """Leave out what XML cannot hold."""
    return printable(" ".join(text.split()))


def gate_json(summary: Summary, policy: PolicyConfig, rulings: Sequence[Ruling], version: str) -> str:
    """Write the outcome, the policy, every ruling and the numbers behind them; differences are fractions."""
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "quantexp": version,
        "title": summary.title,
        "baseline": summary.baseline,
        "status": decide_gate(rulings).value,
        "policy": {key: value.value if isinstance(value, Enum) else value for key, value in asdict(policy).items()},
        "rulings": [{**asdict(each), "status": each.status.value} for each in rulings],
        "pools": [
            {
                **{"model": each.model, "condition": each.quant, "tasks": list(each.tasks)},
                **{"weights": list(each.pooled.weights), **_list_figures(each)},
            }
            for each in summary.pools
        ],
        "comparisons": [
            {"model": each.model, "task": each.task, "condition": each.quant, **_list_figures(each)}
            for each in summary.select_comparisons()
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _list_figures(compared: Comparison | Pooled) -> dict[str, Any]:
    difference, decision = compared.difference, compared.decision
    return {
        **{key: getattr(difference, key) for key in ("difference", "low", "high", "upper", "n")},
        "p_adjusted": decision.p_adjusted if decision else None,
        "verdict": decision.verdict.value if decision else None,
    }
