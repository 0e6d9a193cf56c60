"""The program in the sandbox: confines itself, then runs code from anyone, or tests that call such code elsewhere.

Started by its path, with its settings as JSON in its only argument; imports nothing of quantexp. It reads lines of
JSON and answers each with one. The first line that it writes says which mechanisms hold it. Then it is sent either
`{"code": ...}`, and after that calls of what the code has defined, or `{"tests": ...}`, and sends such calls itself.
What runs here may do anything to this process, so no verdict on it is made here, and nothing here is a secret.
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from quantexp.util.code_sandbox.confinement import confine
    from quantexp.util.code_sandbox.values import decode_value, encode_value
else:
    sys.path.insert(0, str(Path(__file__).parent))
    from confinement import confine
    from values import decode_value, encode_value

    del sys.path[0], sys.modules["confinement"], sys.modules["values"]

LONGEST = 300
"""Characters of an error's message."""

Message = dict[str, Any]


class _Channel:
    """Lines of JSON to and from the process that has started this one."""

    def __init__(self) -> None:
        self._source, self._sink = os.fdopen(os.dup(0), encoding="ascii"), os.dup(1)

    def read(self) -> Message:
        line = self._source.readline()
        if not line:
            os._exit(0)
        read: Message = json.loads(line)
        return read

    def write(self, message: Message) -> None:
        left = memoryview(json.dumps(message).encode("ascii") + b"\n")
        while left:
            left = left[os.write(self._sink, left) :]


def _describe(error: BaseException) -> Message:
    try:
        words = str(error)
    except Exception:  # noqa: BLE001 - the code's own
        words = ""
    return {"error": type(error).__name__[:LONGEST], "message": words[:LONGEST]}


def _serve_code(channel: _Channel, code: str) -> NoReturn:
    """Run code, then what it has defined, as often as it is asked to."""
    module = ModuleType("solution")
    sys.modules["solution"] = module
    try:
        compiled = compile(code, "<solution>", "exec")
    except Exception as error:  # noqa: BLE001 - of SyntaxError there are many kinds, and a text may be too deep
        channel.write({"refused": f"{type(error).__name__}: {error}"[:LONGEST]})
        sys.exit()
    kept: list[Any] = []

    def keep(value: Any) -> int:
        kept.append(value)
        return len(kept) - 1

    def call(asked: Message) -> Any:
        arguments, named = (decode_value(asked[key], kept.__getitem__) for key in ("arguments", "named"))
        function = kept[asked["reference"]] if "reference" in asked else module.__dict__.get(asked["name"])
        if function is None:
            raise NameError(f"name {asked['name']!r} is not defined")
        return encode_value(function(*arguments, **named), keep)

    def answer(work: Callable[[], Message]) -> None:
        try:
            message = work()
        except BaseException as error:  # noqa: BLE001 - the code's own, SystemExit among them
            message = _describe(error)
        channel.write(message)

    def define() -> Message:
        exec(compiled, module.__dict__)
        return {"names": [name for name, value in module.__dict__.items() if callable(value)]}

    answer(define)
    while True:
        asked = channel.read()
        answer(lambda asked=asked: {"value": call(asked)})  # type: ignore[misc]


class _Elsewhere(Exception):  # noqa: N818 - an error of the code, in the other process
    """An exception that the code has raised."""


class _Remote:
    """Something in the other process that can be called, and nothing else."""

    def __init__(self, ask: Callable[[Message], Message], place: Message) -> None:
        self._ask, self._place = ask, place

    @property
    def number(self) -> int:
        return int(self._place["reference"])

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        message = {"arguments": encode_value(arguments, _refuse), "named": encode_value(named, _refuse)}
        answer = self._ask({**self._place, **message})
        if "error" in answer:
            raise _Elsewhere(f"{answer['error']}: {answer['message']}")
        return decode_value(answer["value"], lambda number: _Kept(self._ask, {"reference": number}))


class _Kept(_Remote):
    """A result that stays in the other process."""


def _refuse(value: object) -> int:
    if isinstance(value, _Kept):
        return value.number
    raise TypeError(f"a {type(value).__name__} cannot be an argument")


def _run_tests(channel: _Channel, given: Message) -> NoReturn:
    """Run tests of functions that are in the other process."""

    def ask(message: Message) -> Message:
        channel.write({"call": message})
        return channel.read()

    space: dict[str, Any] = {"__name__": "tests"}
    message: Message = {"passed": True}
    try:
        exec(compile(given["before"], "<before>", "exec"), space)
        space |= {name: _Remote(ask, {"name": name}) for name in given["names"]}
        exec(compile(given["tests"], "<tests>", "exec"), space)
    except _Elsewhere as error:
        message = {"raised": str(error)}
    except BaseException as error:  # noqa: BLE001 - any failure of a test
        message = {"failed": _describe(error)}
    channel.write(message)
    sys.exit()


def _main() -> None:
    settings = json.loads(sys.argv[1])
    channel = _Channel()
    held = confine(Path(settings["scratch"]), settings["limits"])
    if os.getppid() != settings["parent"]:
        sys.exit()  # who would kill this process has ended before it could be asked to
    channel.write({"held": held})
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    given = channel.read()
    if "random" in given.get("code", "") + given.get("tests", ""):
        import random

        random.seed(0)
    with suppress(RecursionError):
        if "code" in given:
            _serve_code(channel, given["code"])
        _run_tests(channel, given)


if __name__ == "__main__":
    _main()
