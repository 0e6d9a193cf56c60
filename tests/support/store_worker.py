"""What other processes do to a store: `python worker.py COMMAND FOLDER ...`; and the records that everybody knows."""

import hashlib
import os
import random
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from quantexp.store import Completion, CompletionStore, compact, report
from quantexp.util.errors import UserError


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def record(number: int) -> Completion:
    return Completion((number, -number), (-0.5, float("-inf")), f"answer {number}\n\x00 ü", "stop", 0.25, number / 3)


def add(store: CompletionStore, numbers: range) -> None:
    for number in numbers:
        store.add(key(number), record(number), {"model": "m", "quant": f"Q{number % 2}", "item": str(number)})


def expected(numbers: range) -> dict[bytes, Completion]:
    return {key(number): record(number) for number in numbers}


def write(folder: Path, begin: str, end: str, each: str) -> None:
    """Add records, telling of each one; a new store after every so many."""
    for start in range(int(begin), int(end), int(each)):
        with CompletionStore(folder) as store:
            for number in range(start, min(start + int(each), int(end))):
                add(store, range(number, number + 1))
                print(number, flush=True)  # noqa: T201


def compact_until(folder: Path, flag: str) -> None:
    """Compact again and again until a file appears."""
    while not Path(flag).exists():
        compact(folder)


def fill(folder: Path) -> None:
    """Add until the file may not grow, then, with more room, go on."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with CompletionStore(folder) as store:
        number = 0
        try:
            for number in range(1000):
                add(store, range(number, number + 1))
        except OSError:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
            add(store, range(number, number + 5))
    print(number, flush=True)  # noqa: T201


def fork(folder: Path) -> None:
    """Add before a fork, and in both processes after it; the child ends last."""
    store = CompletionStore(folder)
    add(store, range(5))
    child = os.fork()
    if child == 0:
        add(store, range(5, 10))
        assert store.lookup(map(key, range(10))) == expected(range(10))
        store.close()
        store.close()
        # The parent still has its own.
        assert report(folder).live == 1
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    add(store, range(10, 15))
    store.close()


def killed_compactions(folder: Path, scratch: str) -> None:
    """Kill compactions of copies of a store: at each call to the system that is told of, and at random moments."""
    copy = Path(scratch)
    complete = expected(range(200))

    def child(kill_at: int) -> None:
        seen = 0

        def hook(event: str, _: tuple[Any, ...]) -> None:
            nonlocal seen
            if event in {"open", "os.rename", "os.remove", "os.scandir", "fcntl.flock"}:
                seen += 1
                if seen == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        compact(copy)
        os._exit(0)

    def killed(kill_at: int, delay: float | None) -> bool:
        shutil.copytree(folder, copy)
        process = os.fork()
        if process == 0:
            child(kill_at)
        if delay is not None:
            time.sleep(delay)
            os.kill(process, signal.SIGKILL)
        status = os.waitpid(process, 0)[1]
        assert CompletionStore(copy).lookup(map(key, range(200))) == complete
        compact(copy)
        assert CompletionStore(copy).lookup(map(key, range(200))) == complete
        assert len(list(copy.glob("*.jsonl"))) == 1
        assert not list(copy.glob("*.compacting"))
        shutil.rmtree(copy)
        assert status in {0, signal.SIGKILL}
        return status != 0

    points = 1
    while killed(points, None):
        points += 1
    for _ in range(40):
        killed(0, random.uniform(0, 0.02))
    print(points, flush=True)  # noqa: T201


def blocked(folder: Path) -> None:
    """Try to compact."""
    try:
        compact(folder)
    except UserError as error:
        print(error)  # noqa: T201


if __name__ == "__main__":
    commands = {
        command.__name__: command for command in (write, compact_until, fill, fork, killed_compactions, blocked)
    }
    commands[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
