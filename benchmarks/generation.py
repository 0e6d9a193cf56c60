"""Speed of the engine against llama.cpp's own benchmark and against the loop people write, as ratios in one run.

1. Decoding and prefill alone, against `llama-batched-bench` with the same file and shapes. That tool samples nothing
   and stops nowhere; what the engine does besides (choosing tokens, log-probabilities, stop rules) is in its figure.
2. End to end on the three bundled tasks, against a loop over `Llama.create_chat_completion`, which keeps the beginning
   that a prompt shares with the one before it. Also with every prompt read whole, as without a shared beginning.
3. Decoding with penalties, and drawn from the likeliest tokens, against greedy decoding without (`--choosing` for
   this part alone): CPU time, the least of some turns in alternation.

Run it on an idle machine: `make bench`. Only the ratios mean anything elsewhere.
"""

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from unittest.mock import patch

from common import config, json_lines, llama_tool, model_file
from llama_cpp import Llama

from quantexp.config import Config, EngineConfig, ExamplePlace
from quantexp.engines import Completion, Decoding, Engine, Prompt, close_engine, open_engine
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.llama_cpp.lanes import BATCH, count_rows
from quantexp.evaluation.prompts import Prompter
from quantexp.tasks import get_task
from quantexp.tasks.data import load
from quantexp.tasks.items import draw_items
from quantexp.util.llama_library import llama_cpp
from quantexp.util.native.threads import usable_cores

TOKENS = 64
"""Written to each prompt of the first part."""

LONGEST = {"gsm8k": 128, "triviaqa": 32, "extraction": 128}
"""max_tokens of the second part: enough for nearly all answers, and the same for both."""


CHOOSING = {
    "greedy": Decoding(TOKENS),
    "greedy, penalties over 64 tokens": Decoding(
        TOKENS, presence_penalty=0.5, frequency_penalty=0.1, repetition_penalty=1.05
    ),
    "greedy, penalties over all tokens": Decoding(
        TOKENS, presence_penalty=0.5, frequency_penalty=0.1, repetition_penalty=1.05, penalty_last_n=-1
    ),
    "drawn, top_k 20, top_p 0.95": Decoding(TOKENS, temperature=0.7, top_k=20, top_p=0.95),
    "drawn, top_k 20, top_p 0.95, penalties over all tokens": Decoding(
        TOKENS, temperature=0.7, top_k=20, top_p=0.95, presence_penalty=1.5, penalty_last_n=-1
    ),
    "drawn, top_p 0.95": Decoding(TOKENS, temperature=0.7, top_p=0.95),
}
"""Ways of choosing tokens of the third part; the first is what the others are held against."""


def main() -> None:
    """All parts, or the last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quants", nargs="+", default=["Q8_0", "Q4_K_M"])
    parser.add_argument("--lanes", nargs="+", type=int, default=[1, 8, 16])
    parser.add_argument("--items", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--choosing", action="store_true")
    options = parser.parse_args()
    for quant in options.quants:
        for lanes in options.lanes:
            ways_of_choosing(config(f"quant={quant}", f"engine.lanes={lanes}", "engine.threads=1"), options.repeats)
    if options.choosing:
        return
    for quant in options.quants:
        for lanes in options.lanes:
            against_batched_bench(config(f"quant={quant}", f"engine.lanes={lanes}"), options.repeats)
    for shots in (0, 5):
        for task in LONGEST:
            against_the_loop(config(f"task={task}", f"task.limit={options.items}", f"task.shots={shots}"))


def against_batched_bench(job: Config, repeats: int) -> None:
    """Time decoding at the job's lanes, and prefill of prompts of 96 and 512 tokens; the best of some turns each."""
    file, lanes = model_file(job), job.engine.lanes
    assert lanes
    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(_ours(job, lanes, 96) | {"pp512": _ours(job, 1, BATCH)["pp"]})
        theirs.append(
            run_batched_bench(file.path, job.engine, lanes, 96)
            | {"pp512": run_batched_bench(file.path, job.engine, 1, BATCH)["pp"]}
        )
    for name, what in (("tg", "decode"), ("pp", "prefill 96"), ("pp512", "prefill 512")):
        mine, reference = (max(each[name] for each in turns) for turns in (ours, theirs))
        print(
            f"{job.quant.name} {lanes:2} lanes {what:11} {mine:6.0f} tokens/s, "
            f"llama-batched-bench {reference:6.0f}, ratio {mine / reference:.2f}",
            flush=True,
        )


def _ours(job: Config, prompts: int, length: int) -> dict[str, float]:
    engine = LlamaCpp(model_file(job), job.model, job.engine)
    asked = random_prompts(prompts, length)
    try:
        with patch.object(llama_cpp, "llama_vocab_is_eog", lambda *_: False):  # the tool does not stop either
            done = [completion for _, completion in engine.complete(asked, Decoding(TOKENS))]
    finally:
        engine.close()
    # The first token of each answer comes out of its prefill.
    return {
        "pp": prompts * length / sum(each.prompt_seconds for each in done),
        "tg": prompts * (TOKENS - 1) / sum(each.generation_seconds for each in done),
    }


def ways_of_choosing(job: Config, repeats: int) -> None:
    """Time decoding with each way of choosing tokens, at the job's lanes, after prompts of 96 tokens."""
    engine = LlamaCpp(model_file(job), job.model, job.engine)
    asked = random_prompts(engine.lanes, 96)
    seconds: dict[str, list[float]] = {way: [] for way in CHOOSING}
    try:
        with patch.object(llama_cpp, "llama_vocab_is_eog", lambda *_: False):
            for _ in range(repeats):
                for way, decoding in CHOOSING.items():
                    once, whole = (cpu_seconds(engine, asked, replace(decoding, max_tokens=n)) for n in (1, TOKENS))
                    seconds[way].append(whole - once)
    finally:
        engine.close()
    first, *others = CHOOSING
    least = min(seconds[first])
    for way in others:
        print(
            f"{job.quant.name} {engine.lanes:2} lanes {way}: {min(seconds[way]) / least:.3f} times greedy's CPU time, "
            f"{1e3 * least / (engine.lanes * (TOKENS - 1)):.2f} ms a token",
            flush=True,
        )


def cpu_seconds(engine: Engine, prompts: Sequence[Prompt], decoding: Decoding) -> float:
    """CPU time of this process for the answers."""
    started = time.process_time()
    list(engine.complete(prompts, decoding))
    return time.process_time() - started


def random_prompts(prompts: int, length: int) -> list[Prompt]:
    """Return prompts of so many tokens, the same each time."""
    numbers = random.Random(0)
    return [
        Prompt(str(prompt), "", tuple(numbers.randrange(100, 40_000) for _ in range(length)), 0)
        for prompt in range(prompts)
    ]


def run_batched_bench(
    path: str, engine: EngineConfig, prompts: int, length: int, tokens: int = TOKENS
) -> dict[str, float]:
    """Have llama.cpp's own tool read and write as much, with the engine's threads and KV cache; its tokens/s."""
    shape = ["-npp", str(length), "-ntg", str(tokens), "-npl", str(prompts)]
    context = -(-(length + tokens) // 256) * 256
    size = ["-c", str(context * count_rows(prompts)), "-b", str(BATCH), "-ub", str(BATCH), "-no-kvu"]
    cores = str(engine.threads or usable_cores())
    threads = ["-t", cores, "-tb", cores]
    cache = ["-ctk", engine.kv_key.value, "-ctv", engine.kv_value.value, "-fa", engine.flash_attention.value]
    options = ["-m", path, *shape, *size, *threads, *cache, "--output-format", "jsonl"]
    [figures] = json_lines([str(llama_tool("llama-batched-bench")), *options])
    return {"pp": figures["speed_pp"], "tg": figures["speed_tg"]}


def against_the_loop(job: Config) -> None:
    """One task end to end: the same prompts, greedy, the same limits."""
    task = get_task(job.task.name)
    model = replace(job.model, examples=ExamplePlace.turns)  # the loop has no other place for them
    longest = LONGEST[job.task.name]
    engine = open_engine(model_file(job), model, job.engine)
    data = load(job.data, task)
    items = draw_items(data.items, job.seed, job.task.limit)
    prompter = Prompter(task, job.task, model, data.examples, engine)
    with patch.object(engine, "render", wraps=engine.render) as rendered:
        prompts = [prompter.prompt(item) for item in items]
    chats = [call.args[0] for call in rendered.call_args_list]
    ours, before = _timed(engine, prompts, Decoding(longest))
    _, whole = _timed(engine, [replace(prompt, shared=0) for prompt in prompts], Decoding(longest))
    threads = usable_cores()
    llama = Llama(model_file(job).path, n_ctx=model.context, n_threads=threads, n_threads_batch=threads, verbose=False)
    started = time.perf_counter()
    theirs = [llama.create_chat_completion(messages=chat, max_tokens=longest, temperature=0) for chat in chats]
    loop = time.perf_counter() - started
    llama.close()
    # Before and after: the machine may have become faster or slower meanwhile.
    _, after = _timed(engine, prompts, Decoding(longest))
    close_engine()
    seconds = (before + after) / 2
    our_tokens = sum(len(each.tokens) for each in ours)
    their_tokens = sum(answer["usage"]["completion_tokens"] for answer in theirs)
    read = sum(len(prompt.tokens) for prompt in prompts)
    print(
        f"{job.task.name:10} {job.task.shots} shots, {len(items)} items, {read} prompt tokens: "
        f"engine {seconds:.1f} s for {our_tokens} tokens, create_chat_completion {loop:.1f} s for {their_tokens}; "
        f"per answer {loop / seconds:.2f}x, per token {loop / their_tokens / (seconds / our_tokens):.2f}x; "
        f"without a shared beginning {loop / whole:.2f}x",
        flush=True,
    )


def _timed(engine: Engine, prompts: Sequence[Prompt], decoding: Decoding) -> tuple[list[Completion], float]:
    started = time.perf_counter()
    done = [completion for _, completion in engine.complete(prompts, decoding)]
    return done, time.perf_counter() - started


if __name__ == "__main__":
    main()
