"""The processor of this machine and the instructions that it has."""

import os
import platform
import re
from functools import cache
from pathlib import Path

_FLAGS = {
    "SSE3": "pni", "SSSE3": "ssse3", "AVX": "avx", "AVX_VNNI": "avx_vnni", "AVX2": "avx2", "F16C": "f16c", "FMA": "fma",
    "BMI2": "bmi2", "AVX512": "avx512f", "AVX512_VBMI": "avx512vbmi", "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16", "AMX_INT8": "amx_int8", "NEON": "asimd", "FP16_VA": "asimdhp", "MATMUL_INT8": "i8mm",
    "SVE": "sve", "DOTPROD": "asimddp", "SME": "sme", "SME2": "sme2",
}  # fmt: skip
"""Extensions by the name that llama.cpp gives them, and that of /proc/cpuinfo."""


def allowed_cores() -> int:
    """Logical cores that this process may run on; all of them where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """Model of the processor; Python's own function is empty on most Linux systems."""
    found = re.search(r"^model name\s*:\s*(.+)$", _information(), flags=re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def processor_flags() -> frozenset[str]:
    """Return the flags of the processor, as Linux names them; none where it does not list them."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", _information(), flags=re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def processor_extensions() -> tuple[str, ...]:
    """Extensions of the processor that llama.cpp has code for, by llama.cpp's names."""
    flags = processor_flags()
    return tuple(name for name, flag in _FLAGS.items() if flag in flags)


def compiled_extensions(system: str) -> tuple[str, ...]:
    """Extensions that a library was compiled with.

    Args:
        system: what its `llama_print_system_info` says, e.g. `CPU : SSE3 = 1 | AVX2 = 1 | OPENMP = 1 | `.
    """
    present = set(re.findall(r"(\w+) = 1\b", system))
    return tuple(name for name in _FLAGS if name in present)


def missing_extensions(system: str) -> tuple[str, ...]:
    """Extensions that a library was compiled with and the processor lacks; none where the system lists no flags."""
    flags = processor_flags()
    return tuple(name for name in compiled_extensions(system) if flags and _FLAGS[name] not in flags)


@cache
def _information() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
