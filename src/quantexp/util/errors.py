"""The error that is a user's mistake, and the exit statuses of commands."""

EXIT_FAILED = 1
"""Exit status of a command of which a job failed."""

EXIT_USAGE = 2
"""Exit status of a command that was refused, as getopt and argparse have it."""

EXIT_INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

EXIT_PIPE = 141
"""Exit status when the reader of the output has gone, as shells have it (128 + SIGPIPE)."""


class UserError(Exception):
    """A user's mistake; the message is one sentence saying what, where and what to do.

    Attributes:
        status: exit status of a command that ends with it.
    """

    status = EXIT_USAGE


BROKEN_MODEL = (
    "the model's file is damaged, or this build of llama.cpp cannot run it: fetch or make the file again, or try "
    "another version"
)
"""Of a model with which llama.cpp cannot compute: why, and what to do."""

NOT_NUMBERS = f"The model computes logits that are not numbers; {BROKEN_MODEL}."
"""Said in place of an answer: the likeliest of such tokens would be one, and mean nothing."""
