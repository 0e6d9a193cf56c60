"""Jobs in a watched process: what llama.cpp or the system does to it ends one job, and nothing else."""

import json
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from running import until
from tests.support.dying import QUICK, order_deaths
from tests.support.forking import Forker
from tests.support.stores import runs_of
from tests.support.waiting import read_killed, wait_for_generation

from quantexp.tracking.backend import Backend
from quantexp.tracking.outbox import fail_entries
from quantexp.util import job_process
from quantexp.util.error_reports import report_errors
from quantexp.util.errors import UserError
from quantexp.util.native.threads import THREADS
from quantexp.util.process_death import ProcessDeathError, describe_death

Start = Callable[..., subprocess.Popen[str]]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def watched() -> Iterator[None]:
    """No process is left after the test."""
    yield
    job_process.stop()


def run_code(code: str) -> None:
    """Run Python code in the process."""
    job_process.call(exec, code)


def test_a_call_finds_the_callers_surroundings_and_gives_what_it_gives(
    watched: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("QUANTEXP_OF_THE_CALLER", "first")
    number = job_process.call(os.getpid)
    assert number != os.getpid()
    assert job_process.call(os.getenv, "QUANTEXP_OF_THE_CALLER") == "first"
    # It is kept, and what has changed since is so there, too.
    monkeypatch.setenv("QUANTEXP_OF_THE_CALLER", "second")
    monkeypatch.delenv("PATH")
    monkeypatch.chdir(tmp_path)
    assert job_process.call(os.getenv, "QUANTEXP_OF_THE_CALLER") == "second"
    assert job_process.call(os.getenv, "PATH") is None
    assert job_process.call(os.getenv, "GGML_NO_BACKTRACE") == "1"
    assert job_process.call(os.getcwd) == str(tmp_path)
    # Lines of its log are handled here, once and as this process has it, and before what was waited for is returned.
    caplog.set_level(logging.INFO)
    run_code("import logging; log = logging.getLogger('there'); log.debug('too much'); log.info('item %d', 7)")
    assert [(each.name, each.getMessage()) for each in caplog.records] == [("there", "item 7")]
    # A user's error is the same here, another one says where it was raised.
    with pytest.raises(UserError, match=r"^mend that$"):
        run_code("from quantexp.util.errors import UserError; raise UserError('mend that')")
    with pytest.raises(FileNotFoundError) as missing:
        job_process.call(os.listdir, "nowhere")
    assert missing.value.filename == "nowhere"
    with pytest.raises(ZeroDivisionError) as divided:
        run_code("def deep():\n    1 / 0\ndeep()")
    assert "in deep" in str(divided.value.__cause__)
    with pytest.raises(RuntimeError, match=r"^Odd: three$"):
        run_code("class Odd(Exception):\n    pass\nraise Odd('three')")
    assert job_process.call(os.getpid) == number


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "os.write(2, b'tensors: 3\\n/tmp/build/ggml.c:12: GGML_ASSERT(a > b) failed\\n'); os.abort()",
            r"break down \(SIGABRT: ggml\.c:12: GGML_ASSERT\(a > b\) failed\); the model's file is damaged",
        ),
        ("signal.raise_signal(signal.SIGSEGV)", r"The job\'s process broke down \(SIGSEGV\), most likely"),
        (
            "signal.raise_signal(signal.SIGILL)",
            r"an instruction that this processor does not know \(SIGILL\).*quantexp\.build_llama\.",
        ),
        ("signal.raise_signal(signal.SIGKILL)", r"was killed \(SIGKILL\), probably for want of memory; free some"),
        ("os._exit(3)", r"ended before the job did \(exit status 3\)"),
    ],
)
def test_a_death_is_told_in_a_sentence_and_the_next_call_has_a_new_process(
    watched: None, capfd: pytest.CaptureFixture[str], code: str, sentence: str
) -> None:
    first = job_process.call(os.getpid)
    with pytest.raises(ProcessDeathError, match=sentence) as died:
        run_code(f"import os, signal; {code}")
    assert died.value.process == first
    assert "\n" not in str(died.value)
    assert job_process.call(os.getpid) != first
    with pytest.raises(SystemExit) as left, report_errors():
        raise died.value
    assert left.value.code == 1
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", f"quantexp: {died.value}\n")


@pytest.mark.parametrize(
    ("status", "written", "sentence"),
    [
        (-signal.SIGBUS, "", "shorter while it was being read, or its disk failed (SIGBUS); see that"),
        (-signal.SIGFPE, "", "(SIGFPE)"),
        (-signal.SIGTERM, "", "ended from outside (SIGTERM); the same command goes on."),
        (-200, "", "ended from outside (signal 200)"),
        (None, "", "(exit status unknown)"),
        (
            -signal.SIGABRT,
            "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n",
            "llama.cpp found no memory (std::bad_alloc); free some",
        ),
        (-signal.SIGABRT, "ggml.c:12: a warning\nwhat():  std::bad_alloc\n", "llama.cpp found no memory"),
        (-signal.SIGABRT, "one\n\x1b[2J two\n\n", "(SIGABRT: \\x1b[2J two)"),
    ],
)
def test_other_deaths(status: int | None, written: str, sentence: str) -> None:
    assert sentence in describe_death(status, written)


def test_a_death_is_told_without_what_earlier_calls_wrote(watched: None) -> None:
    run_code("import os; os.write(2, b'ggml.c:12: a warning of an earlier job')")
    with pytest.raises(ProcessDeathError, match=r"killed \(SIGKILL\), probably"):
        run_code("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


def test_what_a_job_starts_can_be_ended(watched: None) -> None:
    run_code(
        "import subprocess, sys\n"
        "program = 'import sys, time; print(1, flush=True); time.sleep(60)'\n"
        "child = subprocess.Popen([sys.executable, '-c', program], stdout=subprocess.PIPE)\n"
        "child.stdout.read(1), child.terminate()\n"
        "assert child.wait(timeout=30) < 0"
    )


def test_runs_that_had_ended_before_a_death_are_no_part_of_it(tmp_path: Path) -> None:
    beginning = {"uri": "http://s", "experiment": "e", "name": "job", "tags": {"process.id": "7"}, "started": 1}
    for name, line in {"ended": json.dumps({"operation": "End"}), "damaged": "{"}.items():
        (tmp_path / "outbox" / name).mkdir(parents=True)
        (tmp_path / "outbox" / name / "journal.jsonl").write_text(f"{json.dumps(beginning)}\n{line}\n")

    def refuse(_: str) -> Backend:
        raise AssertionError("nothing is to be sent")

    assert fail_entries(tmp_path / "outbox", "http://s", {"process.id": "7"}, "killed", refuse) == []
    assert (tmp_path / "outbox" / "ended").is_dir()
    assert (tmp_path / "outbox-damaged" / "damaged").is_dir()


def test_a_process_that_dies_between_two_calls_harms_none(watched: None) -> None:
    first = job_process.call(os.getpid)
    os.kill(first, signal.SIGKILL)
    psutil.Process(first).wait(300)
    assert job_process.call(os.getpid) != first


def test_signals_for_both_are_the_parents_to_obey(watched: None) -> None:
    number = job_process.call(os.getpid)
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(number, each)
    assert job_process.call(os.getpid) == number


def test_an_unknown_start_method_is_refused_and_with_none_there_is_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(job_process.METHOD, "thread")
    with pytest.raises(UserError, match=r"^QUANTEXP_START_METHOD=thread is unknown; choose one of .*none"):
        job_process.call(os.getpid)
    monkeypatch.setenv(job_process.METHOD, "none")
    assert job_process.call(os.getpid) == os.getpid()


# Jobs


def outcomes(folder: Path) -> dict[tuple[str, str], list[str]]:
    """The status of each attempt at each job, oldest first, and why it ended."""
    found: dict[tuple[str, str], list[str]] = {}
    for run in runs_of(folder, "job"):
        tags = run.data.tags
        told = f"{run.info.status} {tags.get('error', '')}".strip()
        found.setdefault((tags["quant"], tags["seed"]), []).append(told)
    return found


ABORTED = "The model made llama.cpp break down (SIGABRT: ops.cpp:4132: GGML_ASSERT(eps >= 0.0f) failed); "
KILLED = "The job's process was killed (SIGKILL), probably for want of memory; "
FOREIGN = ("Traceback", "gdb", "LWP", "Aborted", "core dumped", "RUNNING")
"""What a user should not have to read."""


def test_a_sweep_outlives_its_jobs_and_the_same_command_goes_on(
    tmp_path: Path, command: Command, small_model: tuple[str, ...]
) -> None:
    dying = order_deaths(tmp_path, "abort", "SIGKILL")
    sweep = ("-m", "quant=Q8_0,Q3_K_M", "seed=0,1", *dying, *small_model)
    status, out, err = command(tmp_path, "quantexp", *sweep)
    assert status == 1, err
    assert not [word for word in FOREIGN if word in out + err]
    found = outcomes(tmp_path)
    assert found["Q8_0", "0"][0].startswith(f"FAILED {ABORTED}")
    assert found["Q8_0", "1"][0].startswith(f"FAILED {KILLED}")
    assert found["Q3_K_M", "0"] == found["Q3_K_M", "1"] == ["FINISHED"]
    assert err.count(f"Q8_0 triviaqa seed 0 failed: {ABORTED}") == 1
    assert err.count("Q3_K_M triviaqa seed 0: score ") == 1
    assert [run.info.status for run in runs_of(tmp_path, "sweep")] == ["FAILED"]
    shown = " ".join(out.split())
    assert "Failed: Q8_0 triviaqa seed 0: The model made llama.cpp break down (SIGABRT" in shown
    assert "report " in shown
    # The log file of the job has the line too.
    assert sum(ABORTED in path.read_text() for path in tmp_path.glob("multirun/*/*/*/quantexp.log")) == 1

    status, out, err = command(tmp_path, "quantexp", *sweep)
    assert status == 0, err
    assert [each[-1] for each in outcomes(tmp_path).values()] == ["FINISHED"] * 4
    assert err.count("finished before") == 2
    assert "Failed" not in out


@pytest.mark.slow
def test_a_job_that_dies_before_its_run_has_begun_is_recorded_and_only_the_last_attempt_is_told(
    tmp_path: Path, command: Command, small_model: tuple[str, ...]
) -> None:
    sweep = ("-m", "quant=Q8_0,Q3_K_M", *order_deaths(tmp_path, "abort"), *small_model)
    assert command(tmp_path, "quantexp", *sweep)[0] == 1
    order_deaths(tmp_path, "SIGSEGV", when="early")
    status, out, err = command(tmp_path, "quantexp", *sweep)
    assert status == 1, err
    attempts = outcomes(tmp_path)["Q8_0", "0"]
    assert [each.partition(" ")[0] for each in attempts] == ["FAILED", "FAILED"]
    assert "(SIGSEGV)" in attempts[1]
    assert out.count("Failed: ") == 1
    assert "SIGABRT" not in out


def test_a_single_job_that_dies_is_recorded_and_says_why(
    tmp_path: Path, command: Command, small_model: tuple[str, ...]
) -> None:
    status, out, err = command(tmp_path, "quantexp", *order_deaths(tmp_path, "SIGILL"), *small_model)
    assert (status, out) == (1, ""), err
    [run] = runs_of(tmp_path, "job")
    reason = run.data.tags["error"]
    assert run.info.status == "FAILED"
    assert reason.startswith("llama.cpp met an instruction that this processor does not know (SIGILL), so ")
    assert err.splitlines()[-1] == f"quantexp: {reason}"
    assert not [word for word in FOREIGN if word in err]


@pytest.mark.slow
def test_under_joblib_one_job_dies_and_the_others_go_on(
    tmp_path: Path, command: Command, small_model: tuple[str, ...]
) -> None:
    dying = order_deaths(tmp_path, "abort")
    sweep = ("-m", "hydra/launcher=joblib", "quant=Q8_0,Q3_K_M", *dying, *small_model)
    status, out, err = command(tmp_path, "quantexp", *sweep)
    assert status == 1, err
    assert not [word for word in FOREIGN if word in out + err]
    ended = sorted(outcome for [outcome] in outcomes(tmp_path).values())
    assert ended[0].startswith(f"FAILED {ABORTED}")
    assert ended[1] == "FINISHED"


@pytest.mark.slow
def test_the_command_itself_never_loads_llama_cpp(tmp_path: Path, small_model: tuple[str, ...]) -> None:
    code = (
        "import sys; from quantexp.__main__ import main\n"
        "from quantexp import aggregate, generate_extraction, notebook, plan, regrade, review_extraction, store, sync\n"
        "try:\n    main()\nfinally:\n    print([name for name in sys.modules if 'llama_cpp' in name])"
    )
    command = [sys.executable, "-c", code, "-m", "quant=Q8_0,Q3_K_M", *QUICK, *small_model]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "[]"
    sweep, *jobs = [int(run.data.tags["process.id"]) for kind in ("sweep", "job") for run in runs_of(tmp_path, kind)]
    assert len(set(jobs)) == 1
    assert sweep not in jobs
    assert not [number for number in jobs if psutil.pid_exists(number)]


def test_in_the_commands_own_process_for_a_debugger(
    tmp_path: Path, forker: Forker, small_model: tuple[str, ...]
) -> None:
    environment = {job_process.METHOD: "none"}
    process = forker.start(tmp_path, "quantexp", *QUICK, *small_model, environment=environment)
    status, _, err = process.communicate(900)
    assert status == 0, err
    [run] = runs_of(tmp_path, "job")
    assert int(run.data.tags["process.id"]) == process.pid


LONG = (
    *("quant=Q8_0", "task=gsm8k", "task.limit=24", "task.shots=0"),
    *("engine.threads=1", "engine.lanes=1", "engine.context=1024"),
)


@pytest.mark.slow
def test_nothing_is_left_of_a_command_that_is_killed(tmp_path: Path, start: Start, cache: Path) -> None:
    process = start(tmp_path, "quantexp", *LONG, f"model.cache={cache}")
    job = psutil.Process(int(wait_for_generation(tmp_path, process).data.tags["process.id"]))
    assert job.ppid() == process.pid
    process.kill()
    job.wait(300)
    process.communicate(timeout=60)  # nobody holds its output open


def test_ctrl_c_at_a_terminal(tmp_path: Path, cache: Path) -> None:
    controller, terminal = pty.openpty()
    # The terminal becomes the command's own, so that Ctrl-C goes to all of its processes.
    command = ["setsid", "--ctty", sys.executable, "-m", "quantexp", "-m", *LONG, f"model.cache={cache}"]
    environment = {**os.environ, "TERM": "xterm"}
    environment.pop(THREADS, None)  # with it the job would be one of several, which have no bars
    process = subprocess.Popen(command, cwd=tmp_path, stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    shown = ""

    def read(text: str) -> None:
        nonlocal shown
        deadline = time.monotonic() + 900
        while text not in shown and time.monotonic() < deadline:
            if select.select([controller], [], [], 0.1)[0]:
                try:
                    shown += os.read(controller, 4096).decode("utf-8", "replace")
                except OSError:  # the other end is closed
                    return

    read("items/s")
    assert re.search(r"Q8_0 gsm8k seed 0 .*24", shown), shown  # the bar of a terminal
    job = psutil.Process(int(wait_for_generation(tmp_path, process).data.tags["process.id"]))
    os.write(controller, b"\x03")
    read("quantexp: interrupted.")
    assert process.wait(300) == 130
    assert "the same command goes on from here" in shown
    assert "Traceback" not in shown
    assert not job.is_running()
    assert [run.info.status for kind in ("sweep", "job") for run in runs_of(tmp_path, kind)] == ["KILLED"] * 2
    assert runs_of(tmp_path, "job")[0].data.tags["error"] == "interrupted"
    os.close(controller)


STUBBORN = """
import signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
open("there", "w").close()
time.sleep(600)
"""


def test_a_second_interrupt_does_not_wait_for_the_call(tmp_path: Path) -> None:
    code = (
        "from quantexp.util import job_process; from quantexp.util.error_reports import report_errors\n"
        f"with report_errors():\n    job_process.call(exec, {STUBBORN!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    until("the call", (tmp_path / "there").exists, process=process, log=lambda: read_killed(process))
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "quantexp: interrupted.\n"
    assert process.returncode == 130
