"""Chat templates, rendered in a process of their own: they come with a model's file, and so from anyone."""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from quantexp.engines.base import Message
from quantexp.engines.chat_template_process import SECONDS
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

_PROGRAM = Path(__file__).with_name("chat_template_process.py")

_KEPT = ("PATH", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""Variables without which Python may not start; the others hold tokens and keys."""


class _Renderer:
    """One process for all templates of this one; started when it is needed, and again after a template has ended it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def ask(self, question: Mapping[str, object]) -> Mapping[str, str]:
        """The process's answer; `refused` too where it ended without one."""
        line = json.dumps(question) + "\n"
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(line)
                process.stdin.flush()
                answer = process.stdout.readline()
            except BrokenPipeError:
                answer = ""
            except BaseException:  # an interrupt: what the process answers to this is not to be taken for the next
                self._kill()
                raise
            if answer.endswith("\n"):
                found: Mapping[str, str] = json.loads(answer)
                return found
            status = self._end()
        slow = status == -signal.SIGXCPU
        return {
            "refused": f"it had not ended after {SECONDS} seconds of computing" if slow else "its process broke down"
        }

    def close(self) -> None:
        """End the process, if it is one of this process's own."""
        with self._lock:
            self._kill()

    def _running(self) -> subprocess.Popen[str]:
        if self._owner != os.getpid():  # a fork: the process is the parent's
            self._process, self._owner = None, os.getpid()
        if self._process is None:
            self._process = subprocess.Popen(
                # -P: the folder of this file, in which modules may be named like Python's own, is not to be searched.
                [sys.executable, "-P", str(_PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="ascii",
                env={name: os.environ[name] for name in _KEPT if name in os.environ},
                start_new_session=True,  # Ctrl-C is for the parent, whose end this one sees
            )
        return self._process

    def _end(self) -> int:
        """The exit status of the process, which has closed its output."""
        assert self._process is not None
        try:
            return self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return 0
        finally:
            self._kill()

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()


_renderer = _Renderer()
atexit.register(_renderer.close)


class ChatTemplate:
    """A template for the chats with one model.

    Args:
        source: Jinja.
        bos: how the token that begins a text is written; empty if the vocabulary has none.
        eos: likewise of the token that ends one.

    Raises:
        UserError: it cannot be read.
    """

    def __init__(self, source: str, bos: str, eos: str) -> None:
        self._asked = {"template": source, "bos": bos, "eos": eos}
        answer = _renderer.ask({**self._asked, "messages": None})
        if (reason := answer.get("refused")) is not None:
            raise UserError(f"The model's chat template is not valid Jinja ({_shown(reason)}); {_CURE}.")

    def render(self, messages: Sequence[Message]) -> str:
        """The text of a chat.

        Raises:
            UserError: the template refuses it, or takes too long, too much memory or too many words over it.
        """
        answer = _renderer.ask({**self._asked, "messages": [dict(message) for message in messages]})
        if (reason := answer.get("refused")) is not None:
            raise UserError(f"The model's chat template refuses the prompt ({_shown(reason)}); {_CURE}.")
        return answer["text"]

    def find_lost(self, roles: Sequence[str]) -> list[str]:
        """The roles whose words do not come into the text, in a chat of turns by these roles.

        Raises:
            UserError: as `render`.
        """
        words = [f"{_PROBE}{number}x" for number in range(len(roles))]  # the x: 1 must not be found in 10
        turns = list(zip(roles, words, strict=True))
        text = self.render([{"role": role, "content": word} for role, word in turns]).lower()
        return list(dict.fromkeys(role for role, word in turns if word not in text))


_PROBE = "quantexp"
"""The beginning of words that every template passes on, if in capitals: no mark-up, no white space."""

_CURE = "give another with model.chat_template=FILE"


def _shown(reason: str) -> str:
    return one_line(reason).rstrip(".")
