"""Agreement with lm-evaluation-harness's own `hf` backend: the same weights, tasks and documents, in one run.

    pip install torch transformers accelerate
    python benchmarks/lm_evaluation.py [DOCUMENTS [FOLDER]]

The embedded model at F16 answers six tasks of different kinds, made of bundled items (40 documents each unless said
otherwise): once by `python -m quantexp -m task=lm-eval`, once by the harness with its `hf` backend, which reads the
same file through transformers and computes in float32. Rolling log-likelihoods, which `task=lm-eval` refuses, come from
the engine through the harness's own windows.

Printed of each task: documents of which every metric is the same, and the largest and the mean relative difference of a
log-likelihood; then each document with another metric, and how far apart its choices or answers are.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from common import config, model_file
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from transformers import AutoModelForCausalLM, AutoTokenizer

from quantexp.engines.base import Continuation
from quantexp.engines.llama_cpp.engine import LlamaCpp

QUANT = "F16"
CONTEXT = 2048
MEAN = {"aggregation": "mean", "higher_is_better": True}
CHAT = "sums_chat"
"""The task that is asked by the chat template."""


def main() -> None:
    """Print a table, and what differs."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[2] if len(sys.argv) > 2 else scratch).absolute()
        tasks = write_tasks(folder / "tasks", count)
        ours = measure_here(folder, tasks)
        path = Path(model_file(config(f"quant={QUANT}")).path)
        backend = open_backend(path)
        manager = TaskManager(include_path=str(folder / "tasks"), include_defaults=False)
        print(f"{'task':16}{'documents':>10}{'metrics':>9}{'same':>9}{'log-likelihood: largest':>25}{'mean':>9}")
        notes = []
        for name in tasks:
            theirs = evaluate_there(backend, manager, name)
            differences, same, found = compare(ours[name], theirs)
            notes += found
            far = f"{max(differences):25.3%}{np.mean(differences):9.3%}" if differences else f"{'':34}"
            metrics = len(next(iter(theirs.values()))["metrics"])
            print(f"{name:16}{len(theirs):10}{metrics:9}{same / len(theirs):9.1%}{far}")
        rolled = compare_rolling(backend, path, folder / "tasks" / "choices.jsonl")
        print(f"{'rolling':16}{len(rolled):10}{1:9}{'':9}{max(rolled):25.3%}{np.mean(rolled):9.3%}")
    print("\n".join(notes or ["No document has another metric."]))


def write_tasks(folder: Path, count: int) -> tuple[str, ...]:
    """Write the definitions and the rows; return the tasks' names."""
    folder.mkdir(parents=True, exist_ok=True)
    choices = read_bundled("choice")
    picked = choices[:: max(1, len(choices) // count)][:count]
    common = {"doc_to_text": "{{question}}\nAnswer:", "doc_to_choice": "choices", "output_type": "multiple_choice"}
    scored = common | {
        "doc_to_target": "answer",
        "metric_list": [{"metric": name, **MEAN} for name in ("acc", "acc_norm")],
    }
    documents = [_number_answer(row) for row in picked]
    write_task(folder, "choices", documents, [], **scored)
    shown = [_number_answer(row) for row in read_bundled("choice_examples")]
    write_task(folder, "choices_5shot", documents, shown, num_fewshot=min(5, len(shown)), **scored)
    subjects = sorted({row["category"] for row in picked})
    for subject in subjects:
        rows = [row for row in documents if row["category"] == subject]
        write_task(folder, f"subjects_{subject}", rows, [], **scored)
    mean = {"metric": "acc", "aggregation": "mean", "weight_by_size": True}
    group = {"group": "subjects", "task": [f"subjects_{each}" for each in subjects], "aggregate_metric_list": [mean]}
    (folder / "subjects.yaml").write_text(yaml.safe_dump(group))
    last = {
        "output_type": "loglikelihood",
        "doc_to_text": "{{question}}\nAnswer:",
        "doc_to_target": " {{answer_text}}",
        "metric_list": [{"metric": "acc", **MEAN}],
    }
    write_task(folder, "last_words", documents, [], **last)
    sums, shown = read_bundled("gsm8k")[:count], read_bundled("gsm8k_examples")
    written = {
        "output_type": "generate_until",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["Question:", "\n\n"], "max_gen_toks": 64, "do_sample": False},
        "filter_list": [
            _filter("strict-match", r"#### (\-?[0-9\.\,]+)"),
            _filter("flexible-extract", r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1),
        ],
        "metric_list": [
            {
                "metric": "exact_match",
                **MEAN,
                "ignore_case": True,
                "regexes_to_ignore": [",", r"\$", "(?s).*#### ", r"\.$"],
            }
        ],
    }
    write_task(folder, "sums_5shot", sums, shown, num_fewshot=5, **written)
    write_task(folder, CHAT, sums, shown, num_fewshot=5, **written)
    return "choices", "choices_5shot", "subjects", "last_words", "sums_5shot", CHAT


def _filter(name: str, pattern: str, group: int = 0) -> dict[str, Any]:
    regex = {"function": "regex", "regex_pattern": pattern, "group_select": group}
    return {"name": name, "filter": [regex, {"function": "take_first"}]}


def _number_answer(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "answer_text": row["answer"], "answer": row["choices"].index(row["answer"])}


def read_bundled(name: str) -> list[dict[str, Any]]:
    """Return the rows of a bundled file."""
    text = (files("quantexp.tasks.bundled") / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def write_task(
    folder: Path, name: str, rows: Sequence[Mapping[str, Any]], examples: Sequence[Mapping[str, Any]], **definition: Any
) -> None:
    """Write a definition, its documents and its worked examples."""
    named = {"test": rows, **({"train": examples} if examples else {})}
    for split, content in named.items():
        text = "".join(json.dumps(row) + "\n" for row in content)
        (folder / (f"{name}.jsonl" if split == "test" else f"{name}_{split}.jsonl")).write_text(text)
    data = {split: str(folder / (f"{name}.jsonl" if split == "test" else f"{name}_{split}.jsonl")) for split in named}
    where: dict[str, Any] = {"dataset_path": "json", "dataset_kwargs": {"data_files": data}, "test_split": "test"}
    if examples:
        where |= {"fewshot_split": "train", "fewshot_config": {"sampler": "first_n"}}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **where, **definition}))


def measure_here(folder: Path, tasks: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Run the command; return by task and document the metrics, and the log-likelihoods or the answer."""
    for chat in (False, True):
        names = ",".join(name for name in tasks if (name == CHAT) == chat)
        command = [sys.executable, "-m", "quantexp", "-m", f"quant={QUANT}", f"stats.baseline={QUANT}", "task=lm-eval"]
        command += [f"task.name={names}", f"task.include_path={folder / 'tasks'}", f"task.chat={str(chat).lower()}"]
        command += [f"engine.context={CONTEXT}", "task.shots=null", "stats.resamples=50"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, table in read_tables(folder):
        found[name] = {str(row["item_id"]): _read_row(row) for row in table.to_dict("records")}
    return found


def read_tables(folder: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the item table of each job, by its task."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id], max_results=1000):
            if run.data.tags.get("quantexp.kind") == "job" and run.info.status == "FINISHED":
                path = client.download_artifacts(run.info.run_id, "items.parquet")
                yield run.data.tags["task"], pd.read_parquet(path)


def _read_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    output = str(row["output"])
    scores = json.loads(output) if output.startswith("[{") else None
    columns = {
        str(key).removeprefix("score_"): value
        for key, value in row.items()
        if key == "score" or str(key).startswith("score_")
    }
    return {"metrics": columns, "scores": scores and [each["logprob"] for each in scores], "answer": output}


def open_backend(path: Path) -> HFLM:
    """Load the same file by transformers."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, max_length=CONTEXT)


def evaluate_there(backend: HFLM, manager: TaskManager, name: str) -> dict[str, dict[str, Any]]:
    """Have the harness evaluate a task; return the same by document."""
    chat = name == CHAT
    said = simple_evaluate(
        backend, tasks=[name], task_manager=manager, log_samples=True, bootstrap_iters=0, apply_chat_template=chat,
        fewshot_as_multiturn=chat, verbosity="ERROR",
    )  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    for task, documents in said["samples"].items():
        for each in documents:
            key = f"{task}-{each['doc_id']}" if len(said["samples"]) > 1 else str(each["doc_id"])
            row = found.setdefault(key, {"metrics": {}})
            several = len({other["filter"] for other in documents}) > 1
            for metric in each["metrics"]:
                row["metrics"][f"{metric}.{each['filter']}" if several else metric] = float(each[metric])
            responses = [response for [response] in each["resps"]]
            row["answer"] = str(responses[0])
            row["scores"] = None if isinstance(responses[0], str) else [float(each[0]) for each in responses]
    return found


def compare(
    ours: Mapping[str, Mapping[str, Any]], theirs: Mapping[str, Mapping[str, Any]]
) -> tuple[list[float], int, list[str]]:
    """Return relative differences of log-likelihoods, the documents that agree in all metrics, and notes on others."""
    if ours.keys() != theirs.keys():
        raise SystemExit(f"other documents: {sorted(ours.keys() ^ theirs.keys())[:4]}")
    differences: list[float] = []
    notes, same = [], 0
    for key, there in theirs.items():
        here = ours[key]
        if there["scores"]:
            differences += [abs(a - b) / abs(b) for a, b in zip(here["scores"], there["scores"], strict=True)]
        own = {name: float(here["metrics"].get(name, here["metrics"]["score"])) for name in there["metrics"]}
        if own == there["metrics"]:
            same += 1
        else:
            notes.append(f"{key}: {own} here, {there['metrics']} there\n  {_describe(here)}\n  {_describe(there)}")
    return differences, same, notes


def _describe(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{each:.3f}" for each in row["scores"]) if row["scores"] else repr(row["answer"])


def compare_rolling(backend: HFLM, path: Path, rows: Path) -> list[float]:
    """Return the relative differences of rolling log-likelihoods of texts longer than a window."""
    questions = [json.loads(line)["question"] for line in rows.read_text().splitlines()]
    texts = [" ".join(questions[start:]) for start in range(0, 20, 4)]
    window = 256
    backend._max_length, before = window, backend._max_length
    composed = config(f"quant={QUANT}", "engine.lanes=1")
    engine = LlamaCpp(model_file(composed), composed.model, composed.engine)
    try:
        return [
            abs(_roll(engine, text, window, backend.prefix_token_id) - there) / abs(there)
            for text in texts
            for there in backend.loglikelihood_rolling([_Request(text)], disable_tqdm=True)
        ]
    finally:
        backend._max_length = before
        engine.close()


class _Request:
    """A request as the harness hands it to a backend."""

    def __init__(self, text: str) -> None:
        self.args = (text,)


def _roll(engine: LlamaCpp, text: str, window: int, prefix: int) -> float:
    tokens = list(engine.tokenize_plain(text))
    windows = map(make_disjoint_window, get_rolling_token_windows(tokens, prefix, window, 1))
    asked = [
        Continuation(str(number), "", tuple(context), 0, continuation=tuple(continuation))
        for number, (context, continuation) in enumerate(windows)
    ]
    return sum(sum(completion.logprobs) for _, completion in engine.score(asked))


if __name__ == "__main__":
    main()
