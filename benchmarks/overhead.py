"""Time of a sweep that is neither inference nor imports, as ratios to `import mlflow` within one run.

CPU seconds of a process and its children, the least of some repetitions. The jobs have one item and one token each, so
what a further job takes is nearly all overhead.
"""

import os
import resource
import subprocess
import sys
import tempfile

REPETITIONS = 3

FEW, MANY = 1, 25

JOB = ("task=gsm8k", "task.limit=1", "task.max_tokens=1", "task.shots=0")


def main() -> None:
    """Print a line for each figure."""
    unit = min(_seconds("-c", "import mlflow") for _ in range(REPETITIONS))
    print(f"import mlflow: {unit:.2f} CPU seconds, here 1.00")
    print(f"--cfg job: {min(_sweep(['--cfg', 'job']) for _ in range(REPETITIONS)) / unit:.2f}")
    for reuse, name in (((), "job"), (("seconds",), "finished job")):
        few: list[float] = []
        many: list[float] = []
        for _ in range(REPETITIONS):
            with tempfile.TemporaryDirectory() as folder:
                for count, found in ((FEW, few), (MANY, many)):
                    command = ["-m", f"seed=range({count})", f"tracking.folder={folder}/{count}", *JOB]
                    seconds = _sweep(command, folder)
                    found.append(_sweep(command, folder) if reuse else seconds)
        print(f"a sweep of one {name}: {min(few) / unit:.2f}")
        print(f"each further {name}: {(min(many) - min(few)) / (MANY - FEW) / unit:.3f}")


def _sweep(arguments: list[str], folder: str = ".") -> float:
    return _seconds("-m", "quantexp", *arguments, folder=folder)


def _seconds(*arguments: str, folder: str = ".") -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, *arguments]
    # Without a baseline there is nothing to compare, which a sweep may end with another status for.
    subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
