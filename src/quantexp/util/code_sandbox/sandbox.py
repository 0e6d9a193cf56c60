"""The sandbox: checks generated code side by side, if the machine can shut it in."""

import logging
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from types import MappingProxyType

from quantexp.util.code_sandbox.checks import Check, Outcome
from quantexp.util.code_sandbox.process import SandboxProcess, StoppedError
from quantexp.util.errors import UserError
from quantexp.util.native.threads import usable_cores
from quantexp.util.progress import bar

log = logging.getLogger(__name__)

_PROBE = """
import os, socket

def reads():
    return bool(open({file!r}).read(1))

def lists():
    return bool(os.listdir({folder!r}))

def writes():
    with open({beside!r}, "x"):
        os.remove({beside!r})
    return True

def connects():
    return bool(socket.socket())

def starts():
    if not os.fork():
        os._exit(0)
    return True

def signals():
    os.kill({parent}, 0)
    return True
"""
"""Tries what generated code must not be able to do; of each try the function and what it reaches."""

_REACHES: Mapping[str, str] = MappingProxyType(
    {
        "reads": "files",
        "lists": "files",
        "writes": "files",
        "connects": "the network",
        "starts": "further processes",
        "signals": "other processes",
    }
)


@cache
def find_leaks() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Try what the sandbox keeps in, once in a process.

    Returns:
        What code in it can reach all the same, and the mechanisms that hold it.

    Raises:
        UserError: the sandbox does not start.
    """
    with SandboxProcess() as process:
        beside = process.scratch.with_name(f"{process.scratch.name}-beside")
        words = {
            "file": __file__,
            "folder": os.path.expanduser("~"),  # noqa: PTH111 - which cannot fail
            "beside": str(beside),
            "parent": os.getpid(),
        }
        leaks = []
        try:
            process.ask({"code": _PROBE.format(**words)})
            for name, reached in _REACHES.items():
                answer = process.ask({"name": name, "arguments": {"tuple": []}, "named": {"dict": []}})
                if answer.get("value") is True:
                    leaks.append(reached)
        except StoppedError as stopped:
            raise UserError(
                f"The sandbox for generated code does not work here: its first program {stopped}."
            ) from stopped
        finally:
            beside.unlink(missing_ok=True)
        return tuple(dict.fromkeys(leaks)), tuple(process.held)


class Sandbox:
    """Runs checks of generated code, each in processes of its own."""

    def __init__(self, name: str, facts: Mapping[str, str], shows: bool) -> None:
        """Take what it is for.

        Args:
            name: of what is graded, for the bar.
            facts: what protects, as tags of a run.
            shows: whether it shows a bar.
        """
        self.facts = facts
        self._name, self._shows = name, shows

    def run(self, checks: Sequence[Check]) -> Iterator[Outcome]:
        """Run checks side by side; their outcomes come in order, each as soon as it is known.

        Raises:
            UserError: the sandbox itself broke down.
        """
        pool = ThreadPoolExecutor(max(1, min(usable_cores(), len(checks))))
        try:
            ends = [pool.submit(check.run) for check in checks]
            with bar(f"{self._name}: running code", len(checks), shows=self._shows) as advance:
                for end in ends:
                    yield end.result()
                    advance(1)
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def open_sandbox(name: str, unsafe_code: bool = False, shows: bool = True) -> Iterator[Sandbox]:
    """Open the sandbox, and say once what protects.

    Args:
        name: of what is graded, for the terminal.
        unsafe_code: whether code may run although something is open to it.
        shows: whether a bar is shown.

    Raises:
        UserError: code could do harm here, and nobody has accepted that.
    """
    leaks, held = find_leaks()
    if leaks and not unsafe_code:
        raise UserError(
            f"Code that a model writes cannot be shut in on this machine: {_join(leaks)} would be open to it (what "
            f"holds: {', '.join(held) or 'nothing'}). Run it on Linux 5.13 or later with Landlock and seccomp, in a "
            "container or virtual machine of its own if need be, or accept that with task.unsafe_code=true."
        )
    _say(leaks, held)
    facts = {
        "grading.sandbox": ", ".join(held) + (f"; open: {', '.join(leaks)}" if leaks else ""),
        "grading.python": platform.python_version(),
    }
    yield Sandbox(name, facts, shows)


@cache
def _say(leaks: tuple[str, ...], held: tuple[str, ...]) -> None:
    if leaks:
        log.warning("generated code runs with %s open to it, as task.unsafe_code=true accepts", _join(leaks))
    else:
        log.info("generated code runs without network, files and further processes (%s)", ", ".join(held))


def _join(words: Sequence[str]) -> str:
    return " and ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} and {words[-1]}"
