"""Settings of a job for publication: what decides its answers, without the places of this machine; and back again.

A published file comes from anybody. What it names on a machine (files, servers, Python modules) is therefore taken from
the one who reads it, never from the file.
"""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from quantexp.config.fingerprint import AUTO, list_decisive, make_plain
from quantexp.config.schema import Config, StatsConfig
from quantexp.config.validation import validated
from quantexp.util.error_reports import explain_error
from quantexp.util.errors import UserError
from quantexp.util.redaction import hide_secrets

FILES: Mapping[str, tuple[str, ...]] = {
    "model": ("path", "checkpoint", "imatrix", "calibration"),
    "data": ("path", "examples"),
    "task": ("include_path",),
}
"""Keys that name files, by their group; the last part of the path is published."""

_HERE: Mapping[str, tuple[str, ...]] = {
    "": ("scheme", "divergence", "divergence_over", "divergence_base", "divergence_write"),
    "model": ("chat_template",),
    "judge": ("model", "engine"),
    "embedder": ("path",),
    "engine": ("url", "verify", "floor"),
}
"""Keys that are not published: places, and measurements besides the scores. The chat template's text is."""

PLACES = (
    *(f"{group}.{key}" for group, keys in FILES.items() for key in keys),
    *("model.folder", "model.cache", "task.module", "task.unsafe_code"),
    *("judge.model", "judge.engine", "embedder.path"),
    *("engine.threads", "engine.kv_memory_gb", "engine.url", "engine.urls", "engine.api_key_variable"),
    *("engine.concurrency", "engine.timeout", "engine.retries"),
)
"""Keys of a published job that only the machine it runs on can say."""


_PRIVATE = frozenset(
    {"tracking", "store", "hydra", "force", "model.folder", "model.cache"}.union(
        each for each in PLACES if each.startswith("engine.")
    )
)
"""Keys of a command that decide no answer, or belong to one machine, and groups of them."""

_NAMED = frozenset({*(f"{group}.{key}" for group, keys in FILES.items() for key in keys), "model.chat_template"})


def publish_settings(config: Config) -> dict[str, Any]:
    """Return the settings of a job that decide its answers and grades, without folders and addresses."""
    tree = list_decisive(config)
    for group, keys in _HERE.items():
        within = tree.get(group, {}) if group else tree
        for key in keys:
            within.pop(key, None)
    for group, keys in FILES.items():
        for key in keys:
            if tree.get(group, {}).get(key):
                tree[group][key] = PurePath(tree[group][key]).name
    return {key: value for key, value in tree.items() if value != {}}


def publish_command(command: str) -> str:
    """Return the words of a command that decide something, without the folders of this machine."""
    words = []
    for word in shlex.split(command):
        key, is_setting, value = word.partition("=")
        group, _, name = key.lstrip("+~").partition(".")
        if is_setting and (group in _PRIVATE or f"{group}.{name}" in _PRIVATE):
            continue
        if is_setting and (key in _NAMED or (group == "data" and name != "repository")):
            value = re.sub(r"[^\s,{}\[\]:'\"=]*/", "", value)
        elif key == "weights":
            value = ",".join(PurePath(each).name if ":" not in each else each for each in value.split(","))
        words.append(f"{key}{is_setting}{value}")
    return hide_secrets(shlex.join(words))


def publish_stats(stats: StatsConfig) -> dict[str, Any]:
    """Return the settings of an analysis as plain values."""
    tree: dict[str, Any] = json.loads(json.dumps(asdict(stats), default=make_plain))
    return tree


def restore_settings(settings: Mapping[str, Any], stats: Mapping[str, Any], places: Mapping[str, Any]) -> Config:
    """Make a job's configuration of what was published.

    Args:
        settings: of the job (`publish_settings`).
        stats: of the analysis (`publish_stats`).
        places: where things are on this machine, by their keys (`PLACES`); of files, the folder will do.

    Raises:
        UserError: the settings are none of this version, refer to something, or a value lies outside its range; or
            they need a place that is not given.
    """
    if "${" in json.dumps([settings, stats], ensure_ascii=False):
        raise UserError("a setting refers to another by ${...}, which no published file does; get the file again.")
    tree = json.loads(json.dumps(dict(settings)))
    for key in places:
        if key not in PLACES:
            raise UserError(f"places: {key} does not say where something is; choose of {', '.join(PLACES)}.")
    if publish_settings(_make_config(tree, stats)) != tree:
        raise UserError("its settings have keys that no published file has, such as places; get the file again.")
    _check_trust(tree, places)
    for key, value in places.items():
        group, name = key.split(".")
        if name not in FILES.get(group, ()):
            tree.setdefault(group, {})[name] = value
    for group, keys in FILES.items():
        for name in keys:
            within = tree.get(group, {})
            if within.get(name) not in (None, AUTO):
                key = f"{group}.{name}"
                within[name] = _place_file(within[name], places.get(key), is_folder=_is_folder(tree, key))
    return _make_config(tree, stats)


def _make_config(tree: Mapping[str, Any], stats: Mapping[str, Any]) -> Config:
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Config), dict(tree) | {"stats": dict(stats)})
        return validated(cast(DictConfig, merged), Config)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        said = explain_error(error) or str(error)
        raise UserError(f"its settings are none of this version of quantexp: {said}") from error


def _is_folder(tree: Mapping[str, Any], key: str) -> bool:
    if key == "model.path":
        return bool(tree["model"].get("source") == "folder")
    return key in ("task.include_path", "model.checkpoint")


def _place_file(published: str, place: object, *, is_folder: bool) -> str:
    """Return where a published file is here: at its place, in the folder that is its place, or beside the reader.

    A published name has no folder in it: a file by a stranger chooses none.
    """
    if place is None:
        return published
    path = Path(str(place)).expanduser()
    return str(path / published if path.is_dir() and not is_folder else path)


def _check_trust(tree: Mapping[str, Any], places: Mapping[str, Any]) -> None:
    """Refuse code and addresses that only the file names."""
    for key, what in {"task.module": "the Python module", "task.include_path": "the tasks in the folder"}.items():
        group, name = key.split(".")
        wanted = tree.get(group, {}).get(name)
        if wanted is not None and not str(wanted).startswith("quantexp.tasks.") and key not in places:
            raise UserError(
                f"it runs {what} {wanted}, which a published file cannot bring: have it here, look at it, and add "
                f"'places={{{key}: {wanted}}}'."
            )
    if tree.get("engine", {}).get("name") == "openai" and not {"engine.url", "engine.urls"} & set(places):
        raise UserError("a server answered: say which one does here, as in 'places={engine.url: http://HOST:PORT/v1}'.")
    if tree.get("judge", {}).get("name", "none") != "none" and "judge.model" not in places:
        raise UserError("a model judged: say which one does here, as in 'places={judge.model: {path: judge.gguf}}'.")
    if tree.get("embedder", {}).get("name", "none") != "none" and "embedder.path" not in places:
        raise UserError("a model embedded: say where it is here, as in 'places={embedder.path: FOLDER}'.")
