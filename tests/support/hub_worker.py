"""Loads data in a process of its own, whose environment says which Hub is asked; started as forker.py starts commands.

Prints a line of JSON: what was loaded, or the sentence of the error. Arguments: the most bytes that a file of it may
have, the task, and overrides of the configuration.
"""

import json
import resource
import sys

from hydra import compose, initialize_config_module

from quantexp.config import Config
from quantexp.config.hydra_schemas import register_schemas
from quantexp.config.validation import validated
from quantexp.tasks import get_task
from quantexp.tasks.data import load
from quantexp.util.errors import UserError


def main() -> None:
    """Load, and print."""
    room, task, *overrides = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(room), int(room)))
    register_schemas()
    with initialize_config_module("quantexp.conf", version_base="1.3"):
        config = validated(compose("config", [f"task={task}", *overrides]), Config)
    try:
        data = load(config.data, get_task(task))
    except UserError as error:
        answer: dict[str, object] = {"error": str(error)}
    else:
        answer = {
            "fingerprint": data.fingerprint,
            "items": [[item.id, item.cluster, dict(item.fields)] for item in data.items],
            "difficulties": [item.difficulty for item in data.items],
            "examples": len(data.examples),
        }
    sys.stdout.write(json.dumps(answer) + "\n")
