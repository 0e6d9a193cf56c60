"""Runs quantexp's commands many times in processes of their own without paying for the imports each time.

Reads lines of JSON, {"folder": ..., "module": ..., "arguments": [...]}; for each, forks a child that runs the command
in the folder with its output in out.txt and err.txt there, its input from in.txt if there is one, and its exit status
in status.txt, and prints the child's number. Prints "ready" first. This process itself never computes: threads of
llama.cpp would not survive a fork.
"""

import json
import os
import signal
import sys
from importlib import import_module

MODULES = {
    name: import_module(f"{name}.__main__" if name in {"quantexp", "quantexp.models", "quantexp.store"} else name)
    for name in sys.argv[1:]
}
for heavy in ("mlflow", "pandas", "llama_cpp", "quantexp.job", "quantexp.tracking", "quantexp.report.chart"):
    import_module(heavy)

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system takes the ended children away
sys.stdout.write("ready\n")
sys.stdout.flush()
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(order["folder"])
        sys.path.insert(0, order["folder"])  # as python -m does
        given = "in.txt" if os.path.exists("in.txt") else os.devnull  # noqa: PTH110
        os.dup2(os.open(given, os.O_RDONLY), 0)
        for descriptor, name in ((1, "out.txt"), (2, "err.txt")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
        module = MODULES[order["module"]]
        sys.argv = [module.__file__ or "", *order["arguments"]]
        try:
            module.main()
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        else:
            status = 0
        with open("status.txt", "w") as stream:  # noqa: PTH123 - nothing between the end and the note of it
            stream.write(str(status))
        sys.stdout.flush()
        os._exit(status)
    sys.stdout.write(f"{child}\n")
    sys.stdout.flush()
