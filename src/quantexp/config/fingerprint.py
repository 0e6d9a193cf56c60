"""Fingerprints of jobs and sweeps: hashes over all that decides their results."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from quantexp.config.condition import find_reference, get_factor, is_baseline
from quantexp.config.schema import Config, StatsConfig


def job_fingerprint(config: Config, **facts: str) -> str:
    """sha256 of what decides a job's answers and grades.

    Args:
        config: the job; where things lie, how fast they are made and how they are analysed does not count.
        facts: identities that the configuration only names, such as the hash of a file.
    """
    return _sha256({"config": _decisive(config), "facts": _facts(config, facts)})


def _facts(config: Config, facts: dict[str, str]) -> dict[str, str]:
    """Return the facts, and those that hold for every job of this installation."""
    template = config.model.chat_template
    facts = facts | {"library": version("llama-cpp-python"), "code": _code()}
    if (module := config.task.module) is not None and (spec := find_spec(module)) and spec.origin:
        # Of a package all modules: in the order of their names, without what lies deeper.
        modules = sorted(Path(spec.origin).parent.glob("*.py")) if spec.submodule_search_locations else [spec.origin]
        facts["task"] = hashlib.sha256(b"".join(Path(each).read_bytes() for each in modules)).hexdigest()
    if template is not None and Path(template).expanduser().is_file():
        facts["chat_template"] = hashlib.sha256(Path(template).expanduser().read_bytes()).hexdigest()
    return facts


def config_fingerprint(config: Config) -> str:
    """sha256 of what a job asks for, whether or not it can be had: what the two attempts at one job have in common."""
    return _sha256(_decisive(config))


def list_decisive(config: Config) -> dict[str, Any]:
    """Return what decides a job's answers and grades, as far as it is not at the schema's defaults, as plain values."""
    tree: dict[str, Any] = json.loads(json.dumps(_decisive(config), default=make_plain))
    return tree


def pair_fingerprint(config: Config, **facts: str) -> str:
    """sha256 of what a job and the baseline's have in common if they are to be compared: all but their conditions.

    Args:
        config: the job.
        facts: as for `job_fingerprint`, without the file's.
    """
    tree = _decisive(config)
    if config.weights is not None:
        _drop(tree, {"model": ("source", "repository", "revision")})
    _drop(
        tree,
        {
            "": ("quant", "divergence_write"),
            "model": ("file", "path", "sha256", "checkpoint", *RECIPE),
            "engine": ("floor", "url", "model"),
        },
    )
    for name in find_reference(config):
        _drop_factor(tree, name)
    return _sha256({"config": tree, "facts": _facts(config, facts)})


def sweep_fingerprint(jobs: Iterable[Config], stats: StatsConfig) -> str:
    """sha256 of what a sweep asks for: its jobs, in any order, what is expected of them, and how they are analysed."""
    jobs = list(jobs)
    expected = sorted({_sha256(_settings(job.hypothesis)) for job in jobs})
    asked = sorted(config_fingerprint(job) for job in jobs)
    return _sha256({"jobs": asked, "hypothesis": expected, "stats": _settings(stats)})


def measures_floor(config: Config) -> bool:
    """Return whether the job answers its items twice: only the baseline's do."""
    return config.engine.floor and is_baseline(config)


AUTO = "auto"
"""Value of `model.imatrix`: make one here."""

RECIPE = ("imatrix", "calibration", "output_type", "embedding_type", "tensor_types")
"""Keys of `model` that belong to a quant which is made here, as its file type does."""

SCHEME = 2
"""Version of what is hashed. Raise it with any default in the schema that changes: a key at its default is not hashed,
so that jobs before and after the change would count as the same."""

_INDECISIVE: Mapping[str, Sequence[str]] = {
    "": ("tracking", "stats", "store", "force", "hypothesis", "weights"),  # of the last, the keys that it stands for do
    "model": ("cache", "folder", "note", "licence", "family", "sampling"),  # what is taken of that is the task's
    "task": ("unsafe_code",),
    "data": ("hint", "own"),  # what is its own has taken the others' place by now
    "engine": (
        *("threads", "kv_memory_gb", "verify", "urls", "api_key_variable", "concurrency", "timeout", "retries"),
    ),
}
"""Keys that decide no answer and no grade, by their group."""


def _decisive(config: Config) -> dict[str, Any]:
    """Collect what decides a job's answers and grades, as far as it differs from the schema's defaults."""
    tree = _settings(config)
    _drop(tree, _INDECISIVE)
    if not config.divergence:
        _drop(tree, {"": ("divergence_over",)})
    if config.engine.name == "llama_cpp":
        _drop(tree, {"engine": ("url", "model", "prompt", "extra_body", "prompt_logprobs")})
    if not is_baseline(config):  # only its job writes
        _drop(tree, {"": ("divergence_write",)})
    if not measures_floor(config):  # where it is measured, it is part of the job
        _drop(tree, {"engine": ("floor",)})
    if config.engine.lanes != 1:  # any number above one gives the same answers
        _drop(tree, {"engine": ("lanes",)})
    return {"scheme": SCHEME, **tree}


def _drop(tree: dict[str, Any], keys: Mapping[str, Sequence[str]]) -> None:
    """Remove keys, by their group, from a tree in which some or all of them may be missing."""
    for group, names in keys.items():
        within = tree.get(group, {}) if group else tree
        for name in names:
            within.pop(name, None)
        if group and not within:
            tree.pop(group, None)


def _drop_factor(tree: dict[str, Any], name: str) -> None:
    """Remove what sets a factor."""
    for key in get_factor(name).keys:
        group, key_of_group, *argument = key.split(".", 2)
        if argument:  # of the chat template
            _drop(tree.get(group, {}), {key_of_group: argument})
        _drop(tree, {group: () if argument else (key_of_group,)})


def _settings(section: Any) -> dict[str, Any]:
    """Collect the fields of a dataclass that are not at their defaults; a new field with a default changes nothing."""
    found = {}
    for field in fields(section):
        value = getattr(section, field.name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if is_dataclass(value):
            value, default = _settings(value), {}
        if value != default:
            found[field.name] = dict(value) if isinstance(value, dict) else value  # what is dropped stays in the config
    return found


_CODE = (
    "quantexp.tasks",
    "quantexp.tasks.constraints",
    "quantexp.tasks.graders",
    "quantexp.tasks.tool_calls",
)
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
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=make_plain).encode()).hexdigest()


def make_plain(value: object) -> object:
    """Return a value that JSON has no form of as one that it has."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return _settings(value)
    raise TypeError(f"{value!r} has no place in a configuration")
