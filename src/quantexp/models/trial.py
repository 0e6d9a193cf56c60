"""Whether llama.cpp survives a GGUF: what is wrong in one may end the whole process, and not only the job."""

import re
import signal
import subprocess
import sys
from pathlib import Path

from quantexp.errors import UserError
from quantexp.models.trial_process import MEMORY, OUT_OF_MEMORY
from quantexp.terminal import one_line

_PROGRAM = Path(__file__).with_name("trial_process.py")


def check_survives(path: Path) -> None:
    """Have another process read the file's header and vocabulary.

    Raises:
        UserError: that process did not survive, or wanted too much memory.
    """
    # -P: the folder of the program, in which modules may be named like Python's own, is not to be searched.
    command = [sys.executable, "-P", str(_PROGRAM), str(path)]
    tried = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if tried.returncode == OUT_OF_MEMORY:
        reason = f"it wants more than {MEMORY >> 30} GB of memory for the header alone"
    elif tried.returncode >= 0:
        return
    elif tried.returncode == -signal.SIGXCPU:
        reason = "it was not through with it after two minutes"
    else:
        said = re.search(r"[\w.-]+\.\w+:\d+: .+", tried.stderr.decode("utf-8", "replace"))
        reason = one_line(said[0]) if said else signal.Signals(-tried.returncode).name
    raise UserError(
        f"{path} makes llama.cpp break down ({reason}): it is damaged, or made to do that; fetch or make it again."
    )
