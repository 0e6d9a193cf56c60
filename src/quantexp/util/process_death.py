"""The sentence for a process that llama.cpp, or the system, has ended in the middle of its work."""

import re
import signal

from quantexp.util.errors import BROKEN_MODEL, EXIT_FAILED, UserError
from quantexp.util.native.library import MEND
from quantexp.util.sandbox import ASSERTION, name_signal
from quantexp.util.terminal import last_line, one_line


class ProcessDeathError(UserError):
    """The process in which a job ran has ended before the job.

    Attributes:
        process: its number.
    """

    status = EXIT_FAILED

    def __init__(self, sentence: str, process: int = 0) -> None:
        super().__init__(sentence)
        self.process = process


_MEMORY = "free some, lower engine.lanes or engine.context, or take a smaller model"

_SENTENCES = {
    signal.SIGABRT: f"The model made llama.cpp break down (SIGABRT{{words}}); {BROKEN_MODEL}.",
    signal.SIGSEGV: f"The job's process broke down (SIGSEGV{{words}}), most likely in llama.cpp; {BROKEN_MODEL}.",
    signal.SIGFPE: f"The job's process broke down (SIGFPE{{words}}), most likely in llama.cpp; {BROKEN_MODEL}.",
    signal.SIGILL: (
        "llama.cpp met an instruction that this processor does not know (SIGILL{words}), so it was compiled for "
        f"another one, or by a faulty compiler; compile it anew: {MEND}."
    ),
    signal.SIGBUS: (
        "A file became shorter while it was being read, or its disk failed (SIGBUS{words}); see that the model's file "
        "is whole and that nothing writes to it."
    ),
    signal.SIGKILL: f"The job's process was killed (SIGKILL{{words}}), probably for want of memory; {_MEMORY}.",
}


def describe_death(status: int | None, written: str) -> str:
    """Say in one sentence why a process has ended and what to do.

    Args:
        status: its exit status, below zero for a signal's number as `multiprocessing` has it; None if it is unknown.
        written: what it has written to standard error.
    """
    last = _last_words(written)
    words = f": {last}" if last else ""
    if "bad_alloc" in written:
        return f"llama.cpp found no memory (std::bad_alloc); {_MEMORY}."
    number = -status if status is not None and status < 0 else None
    if number in _SENTENCES:
        return _SENTENCES[signal.Signals(number)].format(words=words)
    if number is None:
        known = "unknown" if status is None else status
        return (
            f"The job's process ended before the job did (exit status {known}{words}); run the same command again, and "
            "python -m quantexp.doctor if it ends like that again."
        )
    return f"The job's process was ended from outside ({name_signal(number)}{words}); the same command goes on."


def _last_words(written: str) -> str:
    """Return an assertion with its place, the text of an exception, or the last line."""
    for pattern in (ASSERTION, r"what\(\): +(.+)", r"terminate called .+"):
        if found := re.findall(pattern, written):
            return one_line(found[-1])
    return last_line(written)
