"""Speed of the engine with each type of KV cache against `llama-batched-bench` with the same types, in one run.

The types are given as KEY, KEY/VALUE or KEY/VALUE/ATTENTION, such as q5_1/q8_0 or f16/f16/off. Both run on one thread,
and what is compared is CPU time, the least of some turns in alternation: a busy machine changes it little.
"""

import argparse
import resource
from unittest.mock import patch

from common import config, model_file
from generation import TOKENS, cpu_seconds, random_prompts, run_batched_bench

from quantexp.config import Config
from quantexp.engines import Decoding
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.util.llama_library import llama_cpp

TYPES = ("f16", "f16/f16/off", "q8_0", "q5_1/q8_0", "q4_0")

SHAPES = {
    "decode after 96": ((96, 1), (96, TOKENS)),
    "decode after 1024": ((1024, 1), (1024, 32)),
    "prefill 512": ((8, 1), (512, 1)),
}
"""Lengths of prompts and of answers: what the second takes more than the first is measured."""


def main() -> None:
    """Print a line for each type and kind of work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quant", default="Q8_0")
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--lanes", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    options = parser.parse_args()
    for types in options.types:
        key, value, attention = _parts(types)
        job = config(
            f"quant={options.quant}", f"engine.lanes={options.lanes}", "engine.threads=1", f"engine.kv_key={key}",
            f"engine.kv_value={value}", f"engine.flash_attention={attention}",
        )  # fmt: skip
        for shape in options.shapes:
            ours, theirs = _compare(job, options.lanes, shape, options.repeats)
            print(
                f"{options.quant} {types:11} {options.lanes} lanes, {shape}: {1e3 * ours:.2f} ms of CPU a token, "
                f"llama-batched-bench {1e3 * theirs:.2f}, speed as a ratio {theirs / ours:.2f}",
                flush=True,
            )


def _parts(types: str) -> tuple[str, str, str]:
    """Return the types of keys and values, and the attention."""
    key, *others = types.split("/")
    value, attention = [*others, *[key, "auto"][len(others) :]]
    return key, value, attention


def _compare(job: Config, lanes: int, shape: str, repeats: int) -> tuple[float, float]:
    """Return the CPU seconds a token of the engine and of the tool."""
    small, large = SHAPES[shape]
    tokens = lanes * (sum(large) - sum(small))
    file = model_file(job)
    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    engine = LlamaCpp(file, job.model, job.engine)
    try:
        with patch.object(llama_cpp, "llama_vocab_is_eog", lambda *_: False):  # the tool does not stop either
            for _ in range(repeats):
                for found, measure in ((ours, _engine_seconds), (theirs, _tool_seconds)):
                    found.append([measure(engine, job, lanes, *each) for each in (small, large)])
    finally:
        engine.close()
    return _difference(ours) / tokens, _difference(theirs) / tokens


def _difference(turns: list[list[float]]) -> float:
    """Return what the larger work took more, each by its quickest turn."""
    small, large = (min(each) for each in zip(*turns, strict=True))
    return float(large - small)


def _engine_seconds(engine: LlamaCpp, _: Config, lanes: int, length: int, tokens: int) -> float:
    return cpu_seconds(engine, random_prompts(lanes, length), Decoding(tokens))


def _tool_seconds(engine: LlamaCpp, job: Config, lanes: int, length: int, tokens: int) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_batched_bench(engine.file.path, job.engine, lanes, length, tokens)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
