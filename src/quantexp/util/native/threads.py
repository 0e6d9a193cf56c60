"""Cores that llama.cpp's threads may take."""

import os
from pathlib import Path

import psutil

from quantexp.util.native.processor import allowed_cores

THREADS = "QUANTEXP_THREADS"
"""Environment variable with the threads that a job may take where others run beside it."""

_QUOTAS = (
    (Path("/sys/fs/cgroup/cpu.max"),),
    (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")),
)
"""Where Linux says how much computing a container may do, in versions 2 and 1 of its control groups."""


def physical_cores() -> int:
    """Cores of the machine; two threads of one core count once."""
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def core_quota() -> float | None:
    """Cores' worth of computing that a container is limited to; None without a limit."""
    for paths in _QUOTAS:
        try:
            values = " ".join(path.read_text() for path in paths).split()
        except OSError:
            continue
        if len(values) == 2 and all(value.isdecimal() for value in values) and int(values[1]):
            return int(values[0]) / int(values[1])
    return None


def usable_cores() -> int:
    """Physical cores this process may run on; llama.cpp's threads spin, so more than that slows all of them.

    Fewer where a container is limited to less, or where jobs that run beside this one have theirs.
    """
    allowed = allowed_cores()
    limits = [physical_cores(), allowed, int(os.environ.get(THREADS, allowed))]
    if (quota := core_quota()) is not None:
        limits.append(int(quota))
    return max(1, min(limits))
