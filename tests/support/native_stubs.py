"""Stand-ins for a llama-cpp-python that was compiled badly, found before the real one through PYTHONPATH."""

from pathlib import Path

DIES_LOADING = """
import os, signal
os.kill(os.getpid(), signal.SIGILL)
"""

CANNOT_LOAD = """
raise RuntimeError("Failed to load shared library 'libllama.so': libcuda.so.1: cannot open shared object file")
"""

_REAL = """
import os, signal, sys
__path__ = [each + "/llama_cpp" for each in sys.path if os.path.isfile(each + "/llama_cpp/llama_cpp.py")]
from llama_cpp import llama_cpp
load = llama_cpp.llama_model_load_from_file

def loading(path, parameters):
    if {condition}:
        os.kill(os.getpid(), signal.{signal})
    return load(path, parameters)

llama_cpp.llama_model_load_from_file = loading
"""

_COMPUTES = "not (parameters.vocab_only or parameters.no_alloc)"

DIES_COMPUTING = _REAL.format(condition=_COMPUTES, signal="SIGILL")
DIES_WITH_REPACKED = _REAL.format(condition=f"parameters.use_extra_bufts and {_COMPUTES}", signal="SIGILL")
KILLED = _REAL.format(condition="parameters.use_extra_bufts", signal="SIGKILL")

ENDLESS = """
import os, signal
os.kill(os.getpid(), signal.SIGXCPU)
"""

NONSENSE = (
    _REAL.format(condition="False", signal="SIGILL")
    + """
import ctypes
llama_cpp.llama_get_logits = lambda context: [float("nan")] * 288
"""
)


def stub_llama_cpp(folder: Path, source: str) -> dict[str, str]:
    """Write a package llama_cpp; what the environment needs for it to be found."""
    package = folder / "llama_cpp"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(source)
    return {"PYTHONPATH": str(folder)}
