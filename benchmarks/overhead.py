"""Time of commands that is neither inference nor imports of MLflow, as ratios to `import mlflow` within one run.

CPU seconds of a process and its children, the median of some repetitions, each beside an import. The jobs have one
item and one token each, so what a further job takes is nearly all overhead.
"""

import os
import resource
import subprocess
import sys
import tempfile
from statistics import median

REPETITIONS = 3

FEW, MANY = 12, 24

JOB = ("task=gsm8k", "task.limit=1", "task.max_tokens=1", "task.shots=0", "quant=Q8_0,Q4_K_M")

MOST = {"--cfg job": 0.3, "aggregation of a small sweep": 2.5, f"a finished sweep of {FEW} jobs, repeated": 3.0}
MOST["each further finished job"] = 0.1
"""Ratios that are not to be passed."""


def main() -> None:
    """Print a line for each figure."""
    ratios: dict[str, float] = {"--cfg job": _ratio("-m", "quantexp", "--cfg", "job")}
    with tempfile.TemporaryDirectory() as folder:
        few, many = (
            ["-m", "quantexp", "-m", f"seed=range({count // 2})", f"tracking.folder={folder}/{count}", *JOB]
            for count in (FEW, MANY)
        )
        first, more = (_ratio(*command, folder=folder, repetitions=1) for command in (few, many))
        again, again_more = (_ratio(*command, folder=folder) for command in (few, many))
        ratios[f"a sweep of {FEW} jobs"] = first
        ratios["each further job"] = (more - first) / (MANY - FEW)
        ratios[f"a finished sweep of {FEW} jobs, repeated"] = again
        ratios["each further finished job"] = (again_more - again) / (MANY - FEW)
        aggregate = ["-m", "quantexp.aggregate", f"tracking.folder={folder}/{FEW}"]
        ratios["aggregation of a small sweep"] = _ratio(*aggregate, folder=folder)
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}" + (f" (at most {MOST[name]})" if name in MOST else ""))


def _ratio(*arguments: str, folder: str = ".", repetitions: int = REPETITIONS) -> float:
    """Measure a command and `import mlflow` in turn: what else runs on the machine slows both alike."""
    return median(
        _seconds(*arguments, folder=folder) / _seconds("-c", "import mlflow", folder=folder) for _ in range(repetitions)
    )


def _seconds(*arguments: str, folder: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, *arguments]
    # Without a baseline there is nothing to compare, which a sweep may end with another status for.
    subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
