"""A task whose jobs end their process, as files in the folder say; and what is left of one."""

from pathlib import Path

QUICK = (
    "task=triviaqa", "task.limit=1", "task.shots=0", "task.max_tokens=2", "engine.threads=1", "engine.lanes=1",
    "engine.context=256", "stats.resamples=50",
)  # fmt: skip

_MODULE = """
import ctypes
import os
import signal
from pathlib import Path

from quantexp.tasks import Task, triviaqa


def die(pattern):
    for order in sorted(Path().glob(pattern)):
        try:
            order.unlink()  # one process alone can
        except FileNotFoundError:
            continue
        name = order.suffix[1:]
        if name == "abort":
            import llama_cpp
            ggml = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))
            ggml.ggml_abort(b"/tmp/build/ops.cpp", 4132, b"GGML_ASSERT(%s) failed", b"eps >= 0.0f")
        signal.raise_signal(signal.Signals[name])


def target(fields):
    die("death-*")
    return triviaqa.TASK.target(fields)


class Dying(Task):
    def grader(self, name=None):
        if "QUANTEXP_SWEEP" in os.environ:  # not while the command checks what it was given
            die("early-*")
        return Task.grader(self, name)


given = {name: getattr(triviaqa.TASK, name) for name in Task.__slots__}
TASK = Dying(**given | {"target": target})
"""


def order_deaths(folder: Path, *names: str, when: str = "death") -> tuple[str, ...]:
    """Have the next jobs of a folder die, one a name: of a signal, or of ggml's own end; arguments of the command.

    A job dies when it has answered, or with `when="early"` before its run has begun.
    """
    (folder / "dying.py").write_text(_MODULE)
    for number, name in enumerate(names):
        (folder / f"{when}-{number}.{name}").touch()
    return ("task.module=dying", *QUICK)
