"""What the person who runs quantexp reads when something is wrong."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn

from quantexp.files import keep_from_others
from quantexp.terminal import printable

EXIT_USAGE = 2
"""Exit status of a command that was refused, as getopt and argparse have it; failed jobs exit with 1."""

EXIT_INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

EXIT_PIPE = 141
"""Exit status when the reader of the output has gone, as shells have it (128 + SIGPIPE)."""


class UserError(Exception):
    """A user's mistake; the message is one sentence saying what, where and what to do."""


_OTHER_STORE = "mend that, or choose another tracking.folder"


def sentence_for(error: BaseException) -> str | None:
    """One sentence for an error that a user can mend; None for one that is quantexp's own fault."""
    # Imported here: this module is imported before every other one, and none of these is needed until an error comes.
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _from_hydra(error)
    if isinstance(error, ValueError) and "Config group override" in str(error):  # Hydra's, though it does not say so
        return _from_hydra(error)
    if isinstance(error, OSError) and error.errno is not None:
        where = f" ({error.filename})" if error.filename else ""
        return f"The system refused: {os.strerror(error.errno)}{where}; mend that, or choose another folder."
    from quantexp.launching import sentence_of_launcher

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
    """Take an error from here straight to `reported`.

    Hydra would turn one that comes from a callback into a warning and go on, and add lines of its own to one that comes
    from a job. Not for the jobs of a sweep: their errors must not stop the jobs after them.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - nothing is swallowed: `reported` unpacks it
        raise _Carried(error) from None


@contextmanager
def reported() -> Iterator[None]:
    """Around a command: turn an error that a user can mend into its sentence and exit status 2; let any other through.

    With HYDRA_FULL_ERROR=1 every error keeps its traceback.
    """
    keep_from_others()
    before = os.environ.get("HYDRA_FULL_ERROR")
    # Hydra would print its errors itself, over many lines; with this it raises them.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
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
        sentence = None if before == "1" else sentence_for(error)
        if sentence is None:
            raise error from error.__cause__
        fail(sentence)
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def fail(sentence: str) -> NoReturn:
    """Print the sentence and exit.

    Raises:
        SystemExit: always, with status 2.
    """
    print(f"quantexp: {printable(sentence)}", file=sys.stderr)  # noqa: T201 - the terminal is where it belongs
    raise SystemExit(EXIT_USAGE)


def _from_hydra(error: BaseException) -> str:
    """Hydra's and OmegaConf's messages run over many lines; this is the one that matters, with what to do."""
    from hydra.errors import OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    for cause in (error, error.__cause__):
        if isinstance(cause, OmegaConfBaseException) and cause.full_key:
            return _about_key(cause)
    message = str(error)
    for pattern, sentence in _HYDRA_SENTENCES:
        found = re.search(pattern, message, flags=re.DOTALL)
        if found:
            parts = {name: " ".join(text.split()) for name, text in found.groupdict().items()}
            if "known" in parts:
                parts["known"] = ", ".join(parts["known"].split())
            return sentence.format(**parts)
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read as KEY=VALUE; put quotes around the value: 'KEY=\"VALUE\"'."
    lines = [line.strip() for line in message.splitlines()]
    return _sentence(" ".join(line for line in lines if line and not line.startswith("See https://")))


_HYDRA_SENTENCES = (
    (
        r"Could not load 'hydra/launcher/(?:submitit_)?(?P<launcher>joblib|slurm|ray)(?:_plugin)?'",
        "hydra/launcher={launcher} needs Hydra's plugin for it, which is not installed; "
        'run: pip install "quantexp[{launcher}]"',
    ),
    (
        r"Could not find '(?P<group>[^']+)/(?P<option>[^'/]*)'\s+"
        r"Available options in '[^']+':\s+(?P<known>.+?)(?:\n\S|\Z)",
        "{group}={option}: there is no such option; choose one of {known}.",
    ),
    (
        r"Ambiguous value for argument '(?P<given>.+?)'\s+1\.",
        "{given} names several values; add -m to run a job for each of them.",
    ),
    (
        r"Sweep parameters '(?P<given>.+)' requires --multirun",
        "{given} names several values; add -m to run a job for each of them.",
    ),
    (
        r"Error parsing override '(?P<given>.*)'\s+missing EQUAL",
        "{given} has no value; write it as KEY=VALUE.",
    ),
    (
        r"An item is already at '(?P<key>.+?)'.*'(?P=key)=(?P<value>.*?)'\s+Or add",
        "+{key}={value} adds a key that is there already; leave out the +.",
    ),
    (
        r"Multiple values for (?P<key>[^\s]+)\.",
        "{key} is chosen twice; choose it once, without a +: {key}=NAME.",
    ),
    (
        r"Config group override must be a string or a list",
        "A config group was given something that is not a name; choose one of its options, for example quant=Q8_0.",
    ),
)
"""What Hydra says, and what that means to someone who has typed a command; the first that fits is taken."""


def _about_key(error: Any) -> str:
    """The sentence for a key or a value that the configuration's types refuse."""
    key, message = str(error.full_key), str(error.msg or error).splitlines()[0].strip()
    if re.match(r"Key '.*' not in '", message) or "is not in struct" in message:
        parent = key.rpartition(".")[0]
        known = f"; choose one of {', '.join(_keys(error.object_type, parent))}" if _keys(error.object_type) else ""
        return f"{key}: there is no such key{known}."
    if empty := re.match(r"While dereferencing interpolation '\$\{(?P<of>.*)\}': Incompatible value 'None'", message):
        return f"{empty['of']} has no value; add {empty['of']}=VALUE to the command."
    if "missing mandatory value" in message.lower():
        return f"{key} has no value; add {key}=VALUE to the command."
    if "is not Optional" in message:
        return f"{key}=null: this key needs a value."
    if "Invalid type assigned" in message:
        return f"{key} holds several keys; set them one by one, as in {key}.KEY=VALUE."
    value = re.match(
        r"(?:Invalid v|V)alue '(?P<value>.*?)'(?: of type '.*?' could not|, expected| is not a valid)", message
    )
    for sign, needed in _NEEDED.items():
        if value and sign in message:
            return f"{key}={value['value']}: {needed} is needed."
    choices = re.search(r"expected one of \[(?P<known>.*)\]", message)
    if value and choices:
        return f"{key}={value['value']}: there is no such choice; choose one of {choices['known']}."
    return _sentence(f"{key}: {message}")


_NEEDED = {
    "converted to Integer": "a whole number",
    "converted to Float": "a number",
    "is not a valid bool": "true or false",
}
"""What OmegaConf says of a value of the wrong type, and what to give instead."""


def _keys(schema: object, parent: str = "") -> list[str]:
    """The keys of a part of the configuration, as they are written on the command line."""
    if not (isinstance(schema, type) and is_dataclass(schema)):
        return []
    return [f"{parent}.{field.name}" if parent else field.name for field in fields(schema)]


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."
