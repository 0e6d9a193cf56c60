"""Errors as the sentences that a user reads."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, cast

from quantexp.util.errors import EXIT_INTERRUPTED, EXIT_PIPE, EXIT_USAGE, UserError
from quantexp.util.files import keep_from_others
from quantexp.util.garbage import collect_rarely
from quantexp.util.hydra_errors import sentence_of_hydra
from quantexp.util.launcher_errors import sentence_of_launcher
from quantexp.util.redaction import hide_secrets
from quantexp.util.terminal import printable

_OTHER_STORE = "mend that, or choose another tracking.folder"


def explain_error(error: BaseException) -> str | None:
    """One sentence, without secrets, for an error that a user can mend; None for one that is quantexp's own fault."""
    sentence = _sentence_of(error)
    return None if sentence is None else hide_secrets(sentence)


def _sentence_of(error: BaseException) -> str | None:
    # Imported here: this module is imported before every other one, and none of these is needed until an error comes.
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return sentence_of_hydra(error)
    if isinstance(error, ValueError) and "Config group override" in str(error):  # Hydra's, though it does not say so
        return sentence_of_hydra(error)
    if isinstance(error, OSError) and error.errno is not None:
        where = f" ({error.filename})" if error.filename else ""
        return f"The system refused: {os.strerror(error.errno)}{where}; mend that, or choose another folder."
    if (of_launcher := sentence_of_launcher(error)) is not None:
        return of_launcher
    store_error = sys.modules.get("mlflow.exceptions")
    if store_error is not None and isinstance(error, store_error.MlflowException):
        first_line = str(error).strip().splitlines()[0]
        if of_database := re.match(r"\(sqlite3\.\w+\) (?P<said>.+)", first_line):
            return f"The MLflow store refused: {of_database['said']}; {_OTHER_STORE}."
        return f"The MLflow store refused: {first_line}"
    database_error = sys.modules.get("sqlalchemy.exc")
    if database_error is not None and isinstance(error, database_error.DBAPIError):
        return f"The MLflow store refused: {error.orig}; {_OTHER_STORE}."
    return None


class _Carried(BaseException):
    """An error on its way past Hydra's handlers, which catch every Exception."""

    def __init__(self, error: Exception) -> None:
        self.error = error


@contextmanager
def past_hydra() -> Iterator[None]:
    """Take an error from here straight to `report_errors`.

    Hydra would turn one that comes from a callback into a warning and go on, and add lines of its own to one that comes
    from a job. Not for the jobs of a sweep: their errors must not stop the jobs after them.
    """
    try:
        return_to_start()
        yield
    except Exception as error:  # noqa: BLE001 - nothing is swallowed: `report_errors` unpacks it
        _remove_unused_folder()
        raise _Carried(error) from None


def return_to_start() -> None:
    """Go back to the folder that the command was started in, which hydra.job.chdir=true has left.

    Paths of the configuration are relative to it.
    """
    if (started := _look_up("cwd")) is not None:
        os.chdir(started)


def _remove_unused_folder() -> None:
    """Remove Hydra's folder for the output of a command, if the command has left nothing in it but its configuration.

    Only one that was named by default: another may have been there before.
    """
    started, output = _look_up("cwd"), _look_up("output_dir")
    if started is None or output is None or Path(output).parent.parent != Path(started) / "multirun":
        return
    folder = Path(output)
    with suppress(OSError):  # gone, or there is more in a folder above
        if all(
            path.name == ".hydra" or (path.suffix == ".log" and not path.stat().st_size) for path in folder.iterdir()
        ):
            shutil.rmtree(folder)
            folder.parent.rmdir()
            folder.parent.parent.rmdir()


def _look_up(key: str) -> str | None:
    """Look up what Hydra knows at run time; None before it knows."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    known = HydraConfig.instance().cfg
    return None if known is None else OmegaConf.select(cast(Any, known), f"hydra.runtime.{key}")


@contextmanager
def report_errors() -> Iterator[None]:
    """Around a command: turn an error that a user can mend into its sentence and exit status 2; let any other through.

    With HYDRA_FULL_ERROR=1 every error keeps its traceback.
    """
    keep_from_others()
    before = os.environ.get("HYDRA_FULL_ERROR")
    # Hydra would print its errors itself, over many lines; with this it raises them.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with collect_rarely():
            yield
    except KeyboardInterrupt:
        print("quantexp: interrupted.", file=sys.stderr)  # noqa: T201
        raise SystemExit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; Python would complain once more when it flushes on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_PIPE) from None
    except (Exception, _Carried) as caught:  # noqa: BLE001 - raised again, unless it is the user's
        error = caught.error if isinstance(caught, _Carried) else caught
        sentence = None if before == "1" else explain_error(error)
        if sentence is None:
            raise error from error.__cause__
        fail(sentence, error.status if isinstance(error, UserError) else EXIT_USAGE)
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def fail(sentence: str, status: int = EXIT_USAGE) -> NoReturn:
    """Print the sentence and exit.

    Raises:
        SystemExit: always, with this status.
    """
    print(f"quantexp: {printable(hide_secrets(sentence))}", file=sys.stderr)  # noqa: T201 - the terminal is where it belongs
    raise SystemExit(status)
