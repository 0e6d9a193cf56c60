"""Checks of generated code: calls with known results, or tests; the verdict is made outside of the code's process."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from quantexp.util.code_sandbox.process import SandboxProcess, StoppedError
from quantexp.util.code_sandbox.values import decode_value, encode_value
from quantexp.util.terminal import one_line

Kind = Literal["passed", "syntax", "exception", "wrong", "time-out"]
"""The end of a check."""

KINDS: tuple[Kind, ...] = ("syntax", "exception", "wrong", "time-out")
"""Kinds of failures."""

CLOSE = 1e-6
"""Relative and absolute difference of numbers that count as the same, if the known result is a float."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a check.

    Attributes:
        kind: of the end.
        words: the failure, in a clause; empty if there is none.
    """

    kind: Kind
    words: str = ""


@dataclass(frozen=True, slots=True)
class CallCheck:
    """Calls of a function, and what each has to return; the process that runs the code is never told that.

    Attributes:
        code: what defines the function.
        function: its name.
        calls: of each the arguments, and the result.
    """

    code: str
    function: str
    calls: Sequence[tuple[Sequence[Any], Any]]

    def run(self) -> Outcome:
        """Run the code, and compare what it returns."""
        with SandboxProcess() as process:
            try:
                if (failed := _load(process, self.code)) is not None:
                    return failed
                for arguments, expected in self.calls:
                    answer = process.ask(_make_call({"name": self.function}, tuple(arguments)))
                    if "value" not in answer:
                        return _describe_exception(answer)
                    if not _fits(answer["value"], expected):
                        shown = ", ".join(map(repr, arguments))
                        return Outcome("wrong", one_line(f"{self.function}({shown}) is not {expected!r}", 200))
            except StoppedError as stopped:
                return _describe_stop(stopped)
        return Outcome("passed")


@dataclass(frozen=True, slots=True)
class TestCheck:
    """Tests that call functions, in Python; they run in a process of their own, and call the code's from there.

    Attributes:
        code: what defines the functions.
        tests: statements, of which none may raise anything.
        names: of the functions; what the tests call besides is Python's, or defined in `before`.
        before: what is defined before the tests.
    """

    __test__ = False  # for pytest: no tests of this program

    code: str
    tests: str
    names: frozenset[str]
    before: str = ""

    def run(self) -> Outcome:
        """Run the code and the tests."""
        with SandboxProcess() as process, SandboxProcess() as tester:
            try:
                if (failed := _load(process, self.code)) is not None:
                    return failed
            except StoppedError as stopped:
                return _describe_stop(stopped)
            asked: Mapping[str, Any] = {"tests": self.tests, "before": self.before, "names": sorted(self.names)}
            while True:
                try:
                    said = tester.ask(asked)
                except StoppedError as stopped:  # by what the code has returned
                    return _describe_stop(stopped) if stopped.late else Outcome("wrong", f"the test {stopped}")
                if "call" not in said:
                    return _read_verdict(said)
                try:
                    asked = process.ask(said["call"])
                except StoppedError as stopped:
                    return _describe_stop(stopped)


Check = CallCheck | TestCheck
"""Either of them."""


def _load(process: SandboxProcess, code: str) -> Outcome | None:
    """Have a process run code; what went wrong, if anything did."""
    answer = process.ask({"code": code})
    if "refused" in answer:
        return Outcome("syntax", one_line(str(answer["refused"]), 200))
    return None if "names" in answer else _describe_exception(answer)


def _make_call(place: Mapping[str, Any], arguments: tuple[Any, ...]) -> Mapping[str, Any]:
    return {**place, "arguments": encode_value(arguments, _refuse), "named": encode_value({}, _refuse)}


def _refuse(value: object) -> int:
    raise TypeError(f"an argument of a test is a {type(value).__name__}, which is no plain value")


def _fits(given: Any, expected: Any) -> bool:
    try:
        found = decode_value(given)
        return is_same(found, expected)
    except (ValueError, RecursionError):
        return False


def is_same(found: Any, expected: Any) -> bool:
    """Return whether a plain value is the expected one, as Python's == has it; floats may differ by `CLOSE`."""
    if isinstance(expected, float):
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        return is_number and (
            math.isclose(found, expected, rel_tol=CLOSE, abs_tol=CLOSE) or (found != found and expected != expected)
        )
    if isinstance(expected, list | tuple):
        alike = type(found) is type(expected) and len(found) == len(expected)
        return alike and all(is_same(*pair) for pair in zip(found, expected, strict=True))
    if isinstance(expected, dict):
        alike = isinstance(found, dict) and found.keys() == expected.keys()
        return alike and all(is_same(found[key], value) for key, value in expected.items())
    return bool(found == expected)


def _describe_exception(answer: Mapping[str, Any]) -> Outcome:
    words = f"{answer.get('error', 'nonsense')}: {answer.get('message', '')}".strip(": ")
    return Outcome("exception", one_line(words, 200))


def _describe_stop(stopped: StoppedError) -> Outcome:
    return Outcome("time-out" if stopped.late else "exception", str(stopped))


def _read_verdict(said: Mapping[str, Any]) -> Outcome:
    if said.get("passed") is True:
        return Outcome("passed")
    if "raised" in said:
        return Outcome("exception", one_line(str(said["raised"]), 200))
    failed = said["failed"]
    words = "a test fails" if failed["error"] == "AssertionError" else f"{failed['error']} in a test"
    return Outcome("wrong", one_line(f"{words}: {failed['message']}".strip(": "), 200))
