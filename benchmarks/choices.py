"""Items per second of multiple choice: quantexp's scores, and each context with each choice read whole by llama.cpp.

    python benchmarks/choices.py [ITEMS [THREADS]]

in one run, on the embedded model at Q8_0, on bundled items (20 unless said otherwise). The five worked examples are
items with passages, so that the prompt is about as long as one of a public benchmark. With one thread no time is spent
on waiting for another, so that the ratio holds on a busy machine too.

- `quantexp`: what a job does, the store included: the examples are read once, an item once, then its choices.
- `whole, needed logits`: every item with every choice from the beginning, in calls of 512 tokens, logits for the
  choice's tokens only.
- `whole, Llama.eval`: the same through llama-cpp-python's own interface, which has logits for all tokens; on every
  fourth item, because it is slow.
- `echo by a server`: `llama_cpp.server`, asked for prompt and log-probabilities as lm-evaluation-harness's `gguf` model
  does; on two items. Left out without `pip install "llama-cpp-python[server]"`.

Seconds are of the wall clock and of the processor; on a busy machine go by the latter. The best choice is compared too.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from socket import socket

import numpy as np
import openai
import psutil
from common import config, model_file
from llama_cpp import Llama
from numpy.typing import NDArray

from quantexp.engines.base import Continuation
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.sequences import TokenSequence
from quantexp.evaluation.choices import ChoicePrompter, Question, score_choices
from quantexp.store import CompletionStore
from quantexp.tasks import get_task
from quantexp.tasks.choice import parse_scores
from quantexp.tasks.data import load
from quantexp.tasks.items import draw_items

SHOTS = 5


def main() -> None:
    """Print a line for each way."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    threads = [f"engine.threads={number}" for number in sys.argv[2:3]]
    composed = config("task=choice", f"task.shots={SHOTS}", "engine.lanes=1", *threads)
    task, file = get_task("choice"), model_file(composed)
    data = load(composed.data, task)
    engine = LlamaCpp(file, composed.model, composed.engine)
    examples = [item for item in data.items if item.fields["category"] == "reading" and item.difficulty == 3][:SHOTS]
    items = [item for item in data.items if item not in examples]
    prompter = ChoicePrompter(task, composed, examples, engine, unconditional=False)
    questions = [prompter.question(item) for item in draw_items(items, 0, count)]
    tokens = [len(each.prompt.tokens) for each in questions]
    choice = [len(each.continuation) for question in questions for each in question.asked]
    print(
        f"{count} items, {np.mean(tokens):.0f} tokens each, of which {questions[0].prompt.shared} are shared; "
        f"choices of {min(choice)} to {max(choice)} tokens; {engine.threads} threads"
    )
    llama = Llama(
        file.path, n_ctx=1024, n_batch=512, n_threads=engine.threads, logits_all=True, flash_attn=True, verbose=False
    )
    ways: dict[str, tuple[list[Question], Callable[[list[Question]], list[int]]]] = {
        "quantexp": (questions, lambda asked: _score(engine, asked)),
        "whole, needed logits": (questions, lambda asked: _read_whole(engine, asked)),
        "whole, Llama.eval": (questions[::4], lambda asked: _evaluate(llama, asked)),
    }
    ours, ours_busy = 0.0, 0.0
    chosen: dict[str, int] = {}
    for name, (asked, way) in ways.items():
        started, busy = time.perf_counter(), time.process_time()
        best = way(asked)
        seconds, busy = ((now - then) / len(asked) for now, then in (
            (time.perf_counter(), started), (time.process_time(), busy),
        ))  # fmt: skip
        if not chosen:
            ours, ours_busy = seconds, busy
            chosen = {each.prompt.item_id: one for each, one in zip(asked, best, strict=True)}
        same = sum(one == chosen[each.prompt.item_id] for each, one in zip(asked, best, strict=True))
        print(_describe(name, seconds, ours, busy, ours_busy, same, len(asked)), flush=True)
    llama.close()
    engine.close()
    if find_spec("fastapi"):
        two = questions[:2]
        seconds, busy, best = _ask_server(str(file.path), engine.threads, two)
        same = sum(one == chosen[each.prompt.item_id] for each, one in zip(two, best, strict=True))
        print(_describe("echo by a server", seconds, ours, busy, ours_busy, same, len(two)))


def _describe(name: str, seconds: float, ours: float, busy: float, ours_busy: float, same: int, count: int) -> str:
    return (
        f"{name:22}{1 / seconds:8.2f} items/s{seconds / ours:8.1f} times{busy:8.3f} CPU-s an item"
        f"{busy / ours_busy:8.1f} times   {same} of {count} the same choice"
    )


def _score(engine: LlamaCpp, questions: list[Question]) -> list[int]:
    with tempfile.TemporaryDirectory() as folder, CompletionStore(Path(folder)) as store:
        outputs = score_choices(engine, questions, store, {}).completions
    return [int(np.argmax([score.logprob for score in parse_scores(each.text) or ()])) for each in outputs]


def _read_whole(engine: LlamaCpp, questions: list[Question]) -> list[int]:
    best = []
    for question in questions:
        sequences = [TokenSequence((*each.tokens, *each.continuation), len(each.tokens)) for each in question.asked]
        sums = np.zeros(len(sequences))
        for part in engine.distributions(sequences):
            sums[part.sequence] += _sum(part.logits, part.tokens)
        best.append(int(sums.argmax()))
    return best


def _evaluate(llama: Llama, questions: list[Question]) -> list[int]:
    best = []
    for question in questions:
        sums = []
        for each in question.asked:
            llama.reset()
            llama.eval([*each.tokens, *each.continuation])
            rows = slice(len(each.tokens) - 1, len(each.tokens) + len(each.continuation) - 1)
            sums.append(_sum(llama.scores[rows], np.array(each.continuation)))
        best.append(int(np.argmax(sums)))
    return best


def _ask_server(path: str, threads: int, questions: list[Question]) -> tuple[float, float, list[int]]:
    """Return seconds and processor seconds an item, and the best choices, by prompts that the server gives back."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", path, "--n_ctx", "1024", "--logits_all", "true"]
    command += ["--n_threads", str(threads), "--n_threads_batch", str(threads), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=3600, max_retries=60)
            client.models.list()
            process = psutil.Process(server.pid)
            started, before = time.perf_counter(), sum(process.cpu_times()[:2])
            best = [int(np.argmax([_echo(client, each) for each in question.asked])) for question in questions]
            seconds, busy = time.perf_counter() - started, sum(process.cpu_times()[:2]) - before
        finally:
            server.kill()
    return seconds / len(questions), busy / len(questions), best


def _echo(client: openai.OpenAI, asked: Continuation) -> float:
    text = asked.text + asked.written
    reply = client.completions.create(model="one", prompt=text, echo=True, logprobs=10, max_tokens=1, temperature=0)
    found = reply.choices[0].logprobs
    offsets, logprobs = (found and found.text_offset) or [], (found and found.token_logprobs) or []
    within = [value for place, value in zip(offsets, logprobs, strict=True) if len(asked.text) <= place < len(text)]
    return float(sum(value for value in within if value is not None))


def _sum(logits: NDArray[np.float32], tokens: NDArray[np.int32]) -> float:
    below = logits - logits.max(axis=1, keepdims=True)
    of_tokens = np.take_along_axis(below, tokens[:, None].astype(np.intp), 1)[:, 0]
    return float((of_tokens - np.log(np.exp(below).sum(axis=1))).sum())


if __name__ == "__main__":
    main()
