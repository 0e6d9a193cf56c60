"""Speed of the engine with each type of KV cache against `llama-batched-bench` with the same types, in one run.

The types are given as KEY, KEY/VALUE or KEY/VALUE/ATTENTION, such as q5_1/q8_0 or f16/f16/off. Only the ratios mean
anything elsewhere. On a busy machine take `--threads 1`: threads that wait for each other are slowed unevenly.
"""

import argparse

from common import config
from generation import against_batched_bench

TYPES = ("f16", "f16/f16/off", "q8_0", "q5_1/q8_0", "q4_0")


def main() -> None:
    """Print a line for each type, number of lanes, and kind of work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quant", default="Q8_0")
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--lanes", nargs="+", type=int, default=[8])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    for types in options.types:
        key, value, attention = _parts(types)
        for lanes in options.lanes:
            job = config(
                f"quant={options.quant}", f"engine.lanes={lanes}", f"engine.kv_key={key}", f"engine.kv_value={value}",
                f"engine.flash_attention={attention}", f"engine.threads={options.threads or 'null'}",
            )  # fmt: skip
            against_batched_bench(job, options.repeats, f" {types:11}")


def _parts(types: str) -> tuple[str, str, str]:
    """Return the types of keys and values, and the attention."""
    key, *others = types.split("/")
    value, attention = [*others, *[key, "auto"][len(others) :]]
    return key, value, attention


if __name__ == "__main__":
    main()
