"""Tasks of lm-evaluation-harness on data made here: their YAML files and rows, in a folder."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

CAPITALS = (
    ("France", "Paris"),
    ("Italy", "Rome"),
    ("Spain", "Madrid"),
    ("Japan", "Tokyo"),
    ("Egypt", "Cairo"),
    ("Peru", "Lima"),
    ("Cuba", "Havana"),
    ("Kenya", "Nairobi"),
)
MEAN = {"aggregation": "mean", "higher_is_better": True}


def write_task(folder: Path, name: str, rows: Sequence[Mapping[str, Any]], **definition: Any) -> None:
    """Write a task and its rows, of which the examples are the same."""
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {"test": str(data), "train": str(data)}
    common = {"dataset_path": "json", "dataset_kwargs": {"data_files": files}, "test_split": "test"}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **common, **definition}))


def write_choices(folder: Path, name: str, pairs: Sequence[tuple[str, str]] = CAPITALS, **further: Any) -> None:
    """Write a task of multiple choice, with two metrics of a document and one of the corpus."""
    rows = []
    for place, (country, capital) in enumerate(pairs):
        others = [pairs[(place + step) % len(pairs)][1] for step in (1, 2, 3)]
        choices = [*others[: place % 4], capital, *others[place % 4 :]]
        rows.append({"country": country, "choices": choices, "answer": choices.index(capital)})
    metrics = [{"metric": metric, **MEAN} for metric in ("acc", "acc_norm")]
    definition = {
        "output_type": "multiple_choice",
        "doc_to_text": "The capital of {{country}} is",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [*metrics, {"metric": "mcc", "aggregation": "matthews_corrcoef", "higher_is_better": True}],
    }
    write_task(folder, name, rows, **(definition | further))


def write_sums(folder: Path, name: str = "sums", **further: Any) -> None:
    """Write a task whose answers are written, with two examples and two filters."""
    rows = [{"question": f"{one} + {one + 1}", "answer": str(2 * one + 1)} for one in range(1, 9)]

    def filtered(title: str, pattern: str) -> dict[str, Any]:
        return {"name": title, "filter": [{"function": "regex", "regex_pattern": pattern}, {"function": "take_first"}]}

    definition = {
        "training_split": "train",
        "fewshot_split": "train",
        "output_type": "generate_until",
        "num_fewshot": 2,
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "answer",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 12, "do_sample": False},
        "filter_list": [filtered("strict", r"^ ?(\d+)$"), filtered("flexible", r"(\d+)")],
        "metric_list": [{"metric": "exact_match", **MEAN}],
    }
    write_task(folder, name, rows, **(definition | further))


def write_group(folder: Path, weighted: bool = True, name: str = "world") -> None:
    """Write a group of two tasks of multiple choice, one larger than the other."""
    write_choices(folder, f"{name}_west", CAPITALS[:3] + CAPITALS[5:7])
    write_choices(folder, f"{name}_east", (*CAPITALS[3:5], CAPITALS[7], CAPITALS[0]))
    mean = {"metric": "acc", "aggregation": "mean", "weight_by_size": weighted}
    group = {"group": name, "task": [f"{name}_west", f"{name}_east"], "aggregate_metric_list": [mean]}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(group))


INSTRUCTED = """\
def agg_inst_level_acc(items):
    values = [value for item in items for value in item]
    return sum(values) / len(values)


def process_results(doc, results):
    kept = [word in results[0] for word in doc["words"]]
    loose = [word in results[0].lower() for word in doc["words"]]
    return {
        "prompt_level_strict_acc": all(kept),
        "inst_level_strict_acc": kept,
        "prompt_level_loose_acc": all(loose),
        "inst_level_loose_acc": loose,
    }
"""
"""IFEval's metrics, of constraints that need no further package: each is a word that must occur."""


def write_instructions(folder: Path, name: str = "instructed") -> None:
    """Write a task with IFEval's metrics, of which two have several values a document."""
    rows = [
        {"prompt": "Name a pet.", "words": ["cat"]},
        {"prompt": "Name three colours.", "words": ["red", "green", "blue"]},
    ]
    (folder / "instructed.py").write_text(INSTRUCTED)
    metrics = [
        {
            "metric": f"{level}_level_{way}_acc",
            "aggregation": "mean" if level == "prompt" else "!function instructed.agg_inst_level_acc",
            "higher_is_better": True,
        }
        for way in ("strict", "loose")
        for level in ("prompt", "inst")
    ]
    write_task(
        folder, name, rows, output_type="generate_until", doc_to_text="prompt", doc_to_target=0, num_fewshot=0,
        generation_kwargs={"until": [], "do_sample": False, "max_gen_toks": 32},
        process_results="!function instructed.process_results", metric_list=metrics,
    )  # fmt: skip
    path = folder / f"{name}.yaml"
    path.write_text(re.sub(r"'(!function [\w.]+)'", r"\1", path.read_text()))
