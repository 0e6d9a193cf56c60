"""Code that tries to get out of the sandbox, to harm the machine, or to pass without being right: none of it does."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import indent

import psutil
import pytest
from running import until

from quantexp.util.code_sandbox import CallCheck, Outcome, TestCheck, process
from quantexp.util.code_sandbox.process import SECONDS
from quantexp.util.code_sandbox.sandbox import find_leaks
from quantexp.util.errors import UserError

SHUT_IN = ((), ("limits", "Landlock", "seccomp"))

if find_leaks() != SHUT_IN:
    pytest.skip(f"this machine cannot shut code in: {find_leaks()}", allow_module_level=True)

RIGHT = "def double(x):\n    return 2 * x\n"


def run(attempt: str, *, first: str = "") -> Outcome:
    """Run a function that makes an attempt, and returns what that returns; right would be twice the argument."""
    code = f"{first}\ndef double(x):\n{indent(attempt, '    ')}\n"
    return CallCheck(code, "double", [((21,), 42)]).run()


@pytest.fixture(autouse=True)
def left_behind() -> Iterator[None]:
    """Nothing is left behind: no process, no folder."""
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    yield
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
    assert not [*Path(tempfile.gettempdir()).resolve().glob(f"quantexp-code-{os.getpid()}-*")]


def test_code_that_does_nothing_wrong_passes() -> None:
    assert CallCheck(RIGHT, "double", [((21,), 42), (("ab",), "abab"), (([1],), [1, 1])]).run() == Outcome("passed")


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        pytest.param("import os\nwhile True:\n    os.fork()", "PermissionError", id="fork bomb"),
        pytest.param(
            "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(60,)).start()",
            "can't start new thread",
            id="thread bomb",
        ),
        pytest.param("import subprocess\nreturn subprocess.run(['/bin/sh', '-c', 'echo 42'])", "PermissionError"),
        pytest.param("import os\nos.execv('/bin/sh', ['sh', '-c', 'sleep 60'])", "PermissionError"),
        pytest.param(f"import os\nreturn os.listdir({str(Path.home())!r})", "PermissionError", id="home"),
        pytest.param("return open('/etc/passwd').read()", "PermissionError"),
        pytest.param("import os\nreturn open(f'/proc/{os.getppid()}/environ').read()", "PermissionError"),
        pytest.param("import os\nos.kill(os.getppid(), 9)", "PermissionError", id="kill the checker"),
        pytest.param("import os\nos.kill(-1, 9)", "PermissionError", id="kill everything"),
        pytest.param("import os\nos.kill(os.getpid(), 9)", "PermissionError", id="kill itself"),
        pytest.param("import os\nos.symlink('/etc', 'etc')", "PermissionError"),
        pytest.param("import os\nos.link('/etc/passwd', 'passwd')", "Error"),
        pytest.param("import os\nos.chmod('.', 0o777)", "PermissionError"),
        pytest.param("return bytes(10**11)", "MemoryError", id="100 GB of memory"),
        pytest.param("while True:\n    x = [x, x] * 1000", "MemoryError", id="all memory"),
        pytest.param("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (-1, -1))", "ValueError"),
        pytest.param("import os\nos._exit(0)", "ends its process", id="os._exit"),
        pytest.param("raise SystemExit(0)", "SystemExit"),
        pytest.param("raise KeyboardInterrupt", "KeyboardInterrupt"),
        pytest.param("import os\nos.abort()", "SIGABRT"),
        pytest.param("import ctypes\nctypes.string_at(0)", "SIGSEGV"),
        pytest.param("import os\nos.closerange(0, 100)\nwhile True:\n    pass", "ends its process", id="deaf and mute"),
        pytest.param("y = []\nfor _ in range(10**5):\n    y = [y]\nreturn y", "ValueError", id="deep result"),
        pytest.param("return list(range(10**6))", "ValueError", id="large result"),
        pytest.param("from itertools import count\nreturn count()", "ValueError", id="endless result"),
    ],
)
def test_attempts_that_end_in_an_exception(attempt: str, words: str) -> None:
    outcome = run(attempt)

    assert outcome.kind == "exception"
    assert words in outcome.words


def test_no_file_outside_is_read_or_changed(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("42")

    attempts = [
        f"return int(open({str(mine)!r}).read())",
        f"import os\nos.truncate({str(mine)!r}, 0)",
        f"import os\nos.unlink({str(mine)!r})",
        f"import os\nos.rename({str(mine)!r}, 'mine')",
        f"open({str(tmp_path / 'new')!r}, 'w')",
        f"import sqlite3\nsqlite3.connect({str(tmp_path / 'new')!r}).execute('create table a (b)')",
        "import quantexp",
        "import numpy",
    ]
    assert {run(attempt).kind for attempt in attempts} == {"exception"}
    assert mine.read_text() == "42"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_no_connection_reaches_a_listener(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as inet,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract,
    ):
        abstract.bind(f"\0quantexp-{os.getpid()}")
        abstract.setblocking(False)
        inet.setblocking(False)
        attempts = [
            f"import socket\nsocket.create_connection(('127.0.0.1', {inet.getsockname()[1]}))",
            "import urllib.request\nurllib.request.urlopen('http://127.0.0.1')",
            "import socket\na, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
            f"a.sendto(b'42', '\\0quantexp-{os.getpid()}')",
        ]
        assert {run(attempt).kind for attempt in attempts} == {"exception"}
        with pytest.raises(BlockingIOError):
            inet.accept()
        with pytest.raises(BlockingIOError):
            abstract.recv(10)


@pytest.mark.parametrize(
    "attempt",
    [
        "with open('a', 'wb') as file:\n    for _ in range(10**4):\n        file.write(bytes(10**6))",
        "for i in range(10**4):\n    with open(str(i), 'wb') as file:\n        file.write(bytes(10**6))",
        "import os\nfor i in range(10**6):\n    os.mkdir(str(i))",
        "files = [open(str(i), 'wb') for i in range(10**4)]",
    ],
)
def test_ten_gigabytes_are_not_written(attempt: str) -> None:
    before = shutil.disk_usage(tempfile.gettempdir()).used

    assert run(attempt).kind in ("exception", "time-out")
    assert shutil.disk_usage(tempfile.gettempdir()).used < before + 10**9


def test_the_environment_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "42")

    assert "KeyError" in run("import os\nreturn int(os.environ['HF_TOKEN'])").words


FORGED = [
    pytest.param('print(\'{"value": {"int": "0x2a"}}\', flush=True)', id="printed"),
    pytest.param("print('{\"passed\": true}', flush=True)", id="printed verdict"),
    pytest.param(
        "import os\nfor file in range(32):\n    try:\n        os.write(file, b'{\"passed\": true}\\n')\n"
        "    except OSError:\n        pass",
        id="verdict on all files",
    ),
    pytest.param(
        "import os\nfor file in range(32):\n    try:\n        os.write(file, b'[' * 100000 + b'\\n')\n"
        "    except OSError:\n        pass",
        id="nonsense on all files",
    ),
    pytest.param(
        "class Equal:\n    def __eq__(self, other):\n        return True\n    __hash__ = None\nreturn Equal()",
        id="equal to everything",
    ),
    pytest.param(
        "class Equal(int):\n    def __eq__(self, other):\n        return True\n    __hash__ = None\nreturn Equal(1)",
        id="a number that is equal to everything",
    ),
    pytest.param(
        "import builtins\nbuiltins.isinstance = lambda *_: True\nbuiltins.bool = lambda *_: True\nreturn 1",
        id="builtins",
    ),
    pytest.param(
        "import sys\nfor name, module in list(sys.modules.items()):\n    for key in list(vars(module)):\n"
        "        if name not in ('sys', 'builtins') and callable(getattr(module, key)):\n"
        "            setattr(module, key, lambda *_, **__: '{\"passed\": true}')\nreturn 1",
        id="everything patched",
    ),
    pytest.param(
        "import gc\nfor each in gc.get_objects():\n    if isinstance(each, dict):\n"
        "        for key in ('passed', 'value'):\n            each[key] = True\nreturn 1",
        id="garbage collector",
    ),
    pytest.param(
        "import sys\nframe = sys._getframe()\nwhile frame:\n    for name in list(frame.f_locals):\n"
        "        if name in ('message', 'answer'):\n            frame.f_locals[name] = {'passed': True}\n"
        "    frame = frame.f_back\nreturn 1",
        id="frames",
    ),
]


@pytest.mark.parametrize("attempt", FORGED)
def test_forged_results_do_not_pass_calls(attempt: str) -> None:
    assert run(attempt).kind in ("wrong", "exception")


@pytest.mark.parametrize("attempt", FORGED)
def test_forged_results_do_not_pass_tests(attempt: str) -> None:
    code = f"def double(x):\n{indent(attempt, '    ')}\n"
    tests = "def check(candidate):\n    assert candidate(21) == 42\ncheck(double)"

    assert TestCheck(code, tests, frozenset({"double"})).run().kind in ("wrong", "exception")


def test_a_patched_checker_is_not_the_one_that_checks() -> None:
    code = "def check(candidate):\n    pass\ndef abs(x):\n    return 0\ndef double(x):\n    return 1\n"
    tests = "def check(candidate):\n    assert abs(candidate(21) - 42) < 1\ncheck(double)"

    assert TestCheck(code, tests, frozenset({"double"})).run().kind == "wrong"


@pytest.mark.slow
@pytest.mark.parametrize(
    "attempt",
    [
        "while True:\n    pass",
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True:\n    pass",
        "import time\ntime.sleep(1000)",
        "import threading\nthreading.Event().wait()",
        "while True:\n    print('x' * 10**6)",
        "import signal\nsignal.raise_signal(signal.SIGSTOP)",
        "import sys\nsys.setrecursionlimit(10**8)\nreturn double(x)",
    ],
)
def test_what_does_not_end_is_ended(attempt: str) -> None:
    assert run(attempt).kind == "time-out"


@pytest.mark.slow
def test_code_that_the_kernel_ends_by_its_limit_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LIMITS", {**process.LIMITS, "RLIMIT_CPU": 1})
    assert run("while True:\n    pass").kind == "time-out"


@pytest.mark.slow
def test_code_that_somebody_else_ends_has_no_grade() -> None:
    """Though it has computed for a while: as where the system runs out of memory."""
    others = psutil.Process().children()
    with ThreadPoolExecutor() as pool:
        outcome = pool.submit(run, "import time\nwhile time.process_time() < 60:\n    pass")
        code = until("code that computes", lambda: [each for each in psutil.Process().children() if each not in others])
        until("that it has computed", lambda: sum(code[0].cpu_times()[:2]) > SECONDS / 2)
        code[0].kill()
        with pytest.raises(UserError, match="was killed from outside, perhaps for want of memory; nothing was graded"):
            outcome.result()


HOG = """
import time

while True:
    begun = time.perf_counter()
    while time.perf_counter() - begun < 0.0008:
        pass
    time.sleep(0.0001)
"""
"""Computes between the ticks of the kernel, which charges them to whatever else runs."""


@pytest.mark.slow
def test_a_busy_machine_neither_shortens_the_time_nor_changes_the_verdict() -> None:
    wait = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end:\n    pass\nreturn 2 * x"
    hogs = [
        subprocess.Popen([sys.executable, "-c", HOG], start_new_session=True)
        for _ in range(4 * len(os.sched_getaffinity(0)))
    ]
    try:
        with ThreadPoolExecutor() as pool:
            ends = pool.map(lambda share: run(wait.format(share * SECONDS)).kind, (0.9, 0.9, 1.5, 100))
            assert list(ends) == ["passed", "passed", "time-out", "time-out"]
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
