"""Runs `python -m quantexp` many times in processes of their own without paying for the imports each time.

Reads lines of JSON, {"folder": ..., "arguments": [...]}; for each, forks a child that runs the command in the folder
with its output in out.txt and err.txt there, and prints the child's number. Prints "ready" first. This process itself
never computes: threads of llama.cpp would not survive a fork.
"""

import json
import os
import signal
import sys

from quantexp.__main__ import main

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system takes the ended children away
sys.stdout.write("ready\n")
sys.stdout.flush()
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(order["folder"])
        for descriptor, name in ((1, "out.txt"), (2, "err.txt")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
        sys.argv = ["quantexp", *order["arguments"]]
        try:
            main()
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else 1
        else:
            status = 0
        with open("status.txt", "w") as stream:  # noqa: PTH123 - nothing between the end and the note of it
            stream.write(str(status))
        sys.stdout.flush()
        os._exit(status)
    sys.stdout.write(f"{child}\n")
    sys.stdout.flush()
