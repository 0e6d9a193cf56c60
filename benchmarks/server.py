"""The engine against `llama_cpp.server`, asked over HTTP one question after the other, as an evaluation harness does.

Needs the packages of llama-cpp-python's extra `server`: pip install "llama-cpp-python[server]".
"""

import json
import sys
import time
import urllib.request
from dataclasses import replace
from importlib.util import find_spec

from common import config, model_file
from running import llama_cpp_server

from quantexp.config import ExamplePlace
from quantexp.engines import Decoding, close_engine, open_engine
from quantexp.evaluation.prompts import Prompter
from quantexp.tasks import get_task
from quantexp.tasks.data import load
from quantexp.tasks.items import draw_items
from quantexp.util.native.threads import usable_cores

LONGEST = 64
"""Tokens written at most, on both sides."""


def main() -> None:
    """Send the same prompts through both, text in and text out."""
    missing = [name for name in ("sse_starlette", "starlette_context", "pydantic_settings") if find_spec(name) is None]
    if missing:
        sys.exit(f"{', '.join(missing)} missing: pip install 'llama-cpp-python[server]'")
    for task_name in ("gsm8k", "triviaqa", "extraction"):
        job = config(f"task={task_name}", "task.limit=24", "task.shots=2")
        task, model = get_task(task_name), replace(job.model, examples=ExamplePlace.turns)
        engine = open_engine(model_file(job), model, job.engine)
        data = load(job.data, task)
        prompter = Prompter(task, job.task, model, data.examples, engine)
        prompts = [prompter.prompt(item) for item in draw_items(data.items, 0, job.task.limit)]
        started = time.perf_counter()
        ours = [completion for _, completion in engine.complete(prompts, Decoding(LONGEST))]
        seconds = time.perf_counter() - started
        written = sum(len(completion.tokens) for completion in ours)
        close_engine()
        tokens, theirs = asked_of_server(model_file(job).path, model.context, [prompt.text for prompt in prompts])
        print(
            f"{task_name:10} {len(prompts)} items: engine {seconds:.1f} s for {written} tokens, "
            f"llama_cpp.server {theirs:.1f} s for {tokens}; per answer {theirs / seconds:.2f}x",
            flush=True,
        )


def asked_of_server(path: str, context: int, texts: list[str]) -> tuple[int, float]:
    """Tokens that the server wrote, and the seconds between the first question and the last answer."""
    with llama_cpp_server(path, context, usable_cores()) as address:
        started, tokens = time.perf_counter(), 0
        for text in texts:
            question = {"prompt": text, "max_tokens": LONGEST, "temperature": 0}
            request = urllib.request.Request(
                f"{address}/completions", json.dumps(question).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request) as answer:
                tokens += json.load(answer)["usage"]["completion_tokens"]
        return tokens, time.perf_counter() - started


if __name__ == "__main__":
    main()
