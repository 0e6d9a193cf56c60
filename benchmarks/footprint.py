"""Peak memory of the engine over file and KV cache, and its start over llama.cpp's own load.

Each figure is of a process of its own: memory as the system counts it (peak resident set), with everything that the
engine imports, generating from the demo's prompts.
"""

import json
import subprocess
import sys
import time

from common import config, model_file

PROGRAM = """
import json, resource, sys, time
from common import config, model_file
from quantexp.engines import Decoding, Prompt
from quantexp.engines.llama_cpp.memory import kv_bytes
from quantexp.engines.llama_cpp.lanes import count_rows
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.util.llama_library import llama_cpp
job = config(*json.loads(sys.argv[1]))
file = model_file(job)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
started = time.perf_counter()
engine = LlamaCpp(file, job.model, job.engine)
tokens = engine.tokenize("The capital of France is " * 100)
first = list(engine.complete([Prompt("0", "", tokens[:5], 0)], Decoding(1)))
to_first = time.perf_counter() - started
list(engine.complete([Prompt(str(n), "", tokens[n:], 0) for n in range(2 * engine.lanes)], Decoding(32)))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
kv = count_rows(engine.lanes) * kv_bytes(engine.model, engine._context.length)
print(json.dumps({"imports": before, "peak": peak, "kv": kv, "file": file.bytes, "to_first": to_first}))
"""

LOAD = """
import sys, time
from llama_cpp import llama_cpp
started = time.perf_counter()
model = llama_cpp.llama_model_load_from_file(sys.argv[1].encode(), llama_cpp.llama_model_default_params())
print(time.perf_counter() - started)
"""


def main() -> None:
    """Print a line for each quant and number of lanes."""
    for quant in ("Q8_0", "Q4_K_M", "F16"):
        for lanes in (8, 16):
            overrides = [f"quant={quant}", f"engine.lanes={lanes}"]
            path = model_file(config(*overrides)).path
            load = float(_printed(LOAD, path))
            figures = json.loads(_printed(PROGRAM, json.dumps(overrides)))
            mb = {key: value / 1e6 for key, value in figures.items()}
            over = mb["peak"] - mb["file"] - mb["kv"]
            print(
                f"{quant} {lanes:2} lanes: peak {mb['peak']:.0f} MB = file {mb['file']:.0f} + KV {mb['kv']:.0f} + "
                f"{over:.0f} MB, of which {mb['imports']:.0f} MB are Python and its packages; "
                f"first token after {figures['to_first']:.2f} s, of which llama.cpp's load {load:.2f} s",
                flush=True,
            )
            time.sleep(1)


def _printed(program: str, argument: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", program, argument]
    folder = sys.path[0]  # where `common` is
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout.splitlines()[-1]


if __name__ == "__main__":
    main()
