"""What makes two jobs, or two sweeps, the same: hashes over all that decides their results."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from enum import Enum
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from quantexp.config.schema import Config, Forced, StatsConfig


def job_fingerprint(config: Config, **facts: str) -> str:
    """sha256 of what decides a job's answers and grades.

    Args:
        config: the job; where things lie, how fast they are made and how they are analysed does not count.
        facts: identities that the configuration only names, such as the hash of a file.
    """
    return _sha256({"config": _decisive(config), "facts": _facts(config, facts)})


def _facts(config: Config, facts: dict[str, str]) -> dict[str, str]:
    """The facts, and those that hold for every job of this installation."""
    template = config.model.chat_template
    facts = facts | {"library": version("llama-cpp-python"), "code": _code()}
    if (module := config.task.module) is not None and (spec := find_spec(module)) and spec.origin:
        facts["task"] = hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    if template is not None and Path(template).expanduser().is_file():
        facts["chat_template"] = hashlib.sha256(Path(template).expanduser().read_bytes()).hexdigest()
    return facts


def config_fingerprint(config: Config) -> str:
    """sha256 of what a job asks for, whether or not it can be had: what the two attempts at one job have in common."""
    return _sha256(_decisive(config))


def pair_fingerprint(config: Config, **facts: str) -> str:
    """sha256 of what a job and the baseline's have in common if they are to be compared: all but quant and file.

    Args:
        config: the job.
        facts: as for `job_fingerprint`, without the file's.
    """
    tree = _decisive(config)
    del tree["quant"]
    for key in ("file", "path", "sha256", "checkpoint"):
        tree["model"].pop(key, None)
    for key in ("floor", "url", "model"):
        tree["engine"].pop(key, None)
    return _sha256({"config": tree, "facts": _facts(config, facts)})


def sweep_fingerprint(jobs: Iterable[Config], stats: StatsConfig) -> str:
    """sha256 of what a sweep asks for: its jobs, in any order, what is expected of them, and how they are analysed."""
    jobs = list(jobs)
    expected = sorted({repr(job.hypothesis) for job in jobs})
    asked = sorted(config_fingerprint(job) for job in jobs)
    return _sha256({"jobs": asked, "hypothesis": expected, "stats": asdict(stats)})


def measures_floor(config: Config) -> bool:
    """Whether the job answers its items twice: only the baseline's do."""
    return config.engine.floor and config.quant.name == config.stats.baseline


def _decisive(config: Config) -> dict[str, Any]:
    tree = asdict(config)
    for key in ("tracking", "stats", "store", "force", "hypothesis"):
        del tree[key]
    for key in ("cache", "folder", "note", "licence"):
        del tree["model"][key]
    for key in ("hint", "own"):  # what is its own has taken the others' place by now
        del tree["data"][key]
    if not config.divergence:  # what was run before it could be measured is still the same job
        del tree["divergence"]
    if not config.divergence or config.divergence_over is Forced.answer:
        del tree["divergence_over"]
    absent = [("task", "window"), ("model", "checkpoint"), ("quant", "method"), ("quant", "bits_per_weight")]
    for part, key in absent:
        if tree[part][key] is None:
            del tree[part][key]
    for key in ("threads", "kv_memory_gb", "verify", "urls", "api_key_variable", "concurrency", "timeout", "retries"):
        del tree["engine"][key]
    if config.engine.name == "llama_cpp":
        for key in ("url", "model", "prompt", "extra_body"):
            del tree["engine"][key]
    if not measures_floor(config):  # where it is measured, it is part of the job
        del tree["engine"]["floor"]
    # Any number of lanes above one gives the same answers.
    tree["engine"]["lanes"] = "one" if config.engine.lanes == 1 else "several"
    return tree


_CODE = ("quantexp.tasks", "quantexp.tasks.graders")
"""Packages whose own modules make prompts and grades: a changed word in them is another job."""


@cache
def _code() -> str:
    """Hash the modules that make prompts and grades."""
    digest = hashlib.sha256()
    for package in _CODE:
        folder = files(package)
        for module in sorted(each.name for each in folder.iterdir() if each.name.endswith(".py")):
            digest.update(folder.joinpath(module).read_bytes())
    return digest.hexdigest()


def _sha256(tree: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{value!r} has no place in a configuration")
