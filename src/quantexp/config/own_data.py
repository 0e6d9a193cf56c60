"""A user's own data in a sweep: beside what `data=` says for other tasks, and under a name of their own."""

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import PurePath

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError

from quantexp.config.schema import Config, DataConfig
from quantexp.util.errors import UserError

_ENDINGS = re.compile(r"(?:\.(?:jsonl|ndjson|json|csv|tsv|parquet|txt|raw))?(?:\.gz)?$", re.IGNORECASE)


def apply_own_data(composed: DictConfig) -> DictConfig:
    """Give a job the data that `data.own` has for its task, and name its task after its data if nothing else did.

    Args:
        composed: a job's configuration, interpolations not resolved; it is not changed.

    Raises:
        UserError: `data.own` has something for the task that is neither a file nor keys of `data`.
    """
    is_unnamed = OmegaConf.is_missing(composed.task, "name") and composed.task.module is not None
    if not is_unnamed and not composed.data.own:
        return composed
    composed = copy.deepcopy(composed)
    OmegaConf.set_readonly(composed, False)
    name = _kind(composed.task.module) if is_unnamed else composed.task.name
    if name in composed.data.own:
        given = OmegaConf.to_container(composed.data.own, resolve=False)
        assert isinstance(given, dict)
        composed.data = OmegaConf.structured(DataConfig(name="files", source="files"))
        OmegaConf.set_struct(composed.data.columns, False)
        OmegaConf.set_struct(composed.data.own, False)
        composed.merge_with({"data": {**_keys(name, given[name]), "own": given}})
        if composed.data.source != "files":
            composed.data.name = composed.data.source
    if is_unnamed:
        composed.task.name = _name_of_data(composed) or name
    return composed


def check_own_data(jobs: Iterable[Config]) -> None:
    """Refuse data of a task that no job has.

    Raises:
        UserError: there are such data; the sentence names the tasks there are.
    """
    jobs = list(jobs)
    tasks = dict.fromkeys(job.task.name for job in jobs)
    used = {*tasks, *(_kind(job.task.module) for job in jobs)}
    for name in {name: None for job in jobs for name in job.data.own}:
        if name not in used:
            raise UserError(
                f"data.own.{name}: no job has that task; choose one of {', '.join(tasks)}, or add it to task=."
            )


def _kind(module: str | None) -> str:
    """Return the name of a task that has none yet: its module's."""
    return (module or "").rpartition(".")[2]


def _keys(name: str, given: object) -> Mapping[str, object]:
    """Return the entry of `data.own` for a task, as keys of `data`."""
    if isinstance(given, str):
        return {"path": given}
    known = [field.name for field in fields(DataConfig) if field.name != "own"]
    if not isinstance(given, dict):
        raise UserError(
            f"data.own.{name}={given}: give a file, as in data.own.{name}=FILE, or keys of data, as in "
            f"'data.own.{name}={{path: FILE, columns: {{question: prompt}}}}'."
        )
    if unknown := [key for key in given if key not in known]:
        raise UserError(f"data.own.{name}.{unknown[0]}: there is no such key; choose one of {', '.join(known)}.")
    return {str(key): value for key, value in given.items()}


def _name_of_data(composed: DictConfig) -> str:
    """Return the name of the file, or of the repository, without folder and ending."""
    key = {"files": "data.path", "hub": "data.repository"}.get(composed.data.source)
    try:
        place = None if key is None else OmegaConf.select(composed, key)
    except InterpolationToMissingValueError as error:
        raise UserError(
            f"{key} asks for the task's name, which a task without one takes from {key}: add task.name=NAME."
        ) from error
    return re.sub(r"[^\w.-]+", "-", _ENDINGS.sub("", PurePath(str(place or "")).name)).strip("-.")
