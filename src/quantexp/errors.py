"""What the person who runs quantexp reads when something is wrong."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_USAGE = 2
"""Exit status of a command that was refused, as getopt and argparse have it; failed jobs exit with 1."""

EXIT_INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


class UserError(Exception):
    """A user's mistake; the message is one sentence saying what, where and what to do."""


def sentence_for(error: BaseException) -> str | None:
    """One sentence for an error that a user can mend; None for one that is quantexp's own fault."""
    # Imported here: this module is imported before every other one, and none of these is needed until an error comes.
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _from_hydra(error)
    if isinstance(error, OSError) and error.errno is not None:
        where = f" ({error.filename})" if error.filename else ""
        return f"The system refused: {os.strerror(error.errno)}{where}; free or choose another place."
    store_error = sys.modules.get("mlflow.exceptions")
    if store_error is not None and isinstance(error, store_error.MlflowException):
        first_line = str(error).strip().splitlines()[0]
        return f"The MLflow store refused: {first_line}"
    return None


@contextmanager
def reported() -> Iterator[None]:
    """Turn an error that a user can mend into its sentence and exit status 2; let any other through.

    With HYDRA_FULL_ERROR=1 every error keeps its traceback.
    """
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra would print its errors itself, over many lines; with this it raises them.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    except KeyboardInterrupt:
        print("quantexp: interrupted.", file=sys.stderr)  # noqa: T201
        raise SystemExit(EXIT_INTERRUPTED) from None
    except Exception as error:
        sentence = None if wants_traceback else sentence_for(error)
        if sentence is None:
            raise
        fail(sentence)


def fail(sentence: str) -> None:
    """Print the sentence and exit.

    Raises:
        SystemExit: always, with status 2.
    """
    print(f"quantexp: {sentence}", file=sys.stderr)  # noqa: T201 - the terminal is where it belongs
    raise SystemExit(EXIT_USAGE)


def _from_hydra(error: Exception) -> str:
    """Hydra's and OmegaConf's messages run over many lines; this is the one that matters, with what to do."""
    message = str(error)
    if error.__cause__ is not None and not isinstance(error.__cause__, SystemExit):
        message += f"\n{error.__cause__}"
    unknown = re.search(
        r"Could not find '(?P<group>[^']+)/(?P<option>[^'/]+)'\s+Available options in '[^']+':\s+"
        r"(?P<known>.+?)(?:\n\S|\Z)",
        message,
        flags=re.DOTALL,
    )
    if unknown:
        known = ", ".join(unknown["known"].split())
        return f"{unknown['group']}={unknown['option']}: there is no such option; choose one of {known}."
    lines = [line.strip() for line in message.splitlines()]
    keep = [line for line in lines if line and not line.startswith(("object_type", "reference_type"))]
    return " ".join(dict.fromkeys(keep))
