"""Weights named in one word, REPOSITORY:LABEL or PATH.gguf: the keys of model and quant that they stand for."""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from omegaconf import DictConfig, OmegaConf

from quantexp.util.errors import UserError

_ON_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+):(?P<label>[^:@]*[^:@/\s])(?:@(?P<revision>[^:@\s]+))?", re.ASCII)
_PART = re.compile(r"-\d{5}-of-\d{5}$")


@dataclass(frozen=True, slots=True)
class Weights:
    """One file, or all parts of it.

    Attributes:
        name: what reports call it: PUBLISHER/LABEL with the revision if one is given, or the name of a local file.
        keys: the keys that choose it, with their values; null for those that would choose another.
        model: the repository's name without GGUF; None for a local file.
    """

    name: str
    keys: Mapping[str, str | bool | None]
    model: str | None


def parse_weights(word: str) -> Weights:
    """Read what names the weights.

    A name depends on nothing but the word, so that a job is the same in every sweep.

    Raises:
        UserError: it names none.
    """
    keys: dict[str, str | bool | None] = dict.fromkeys(
        ("model.package", "model.checkpoint", "model.sha256", "model.file", "quant.file_type", "quant.method"), None
    )
    keys["model.quantize"] = False
    if found := _ON_HUB.fullmatch(word):
        publisher, _, repository = found["repository"].partition("/")
        label, revision = found["label"], found["revision"]
        is_file = label.lower().endswith(".gguf")
        shown = _stem(label) if is_file else label
        name = f"{publisher}/{shown}" + (f"@{revision}" if revision else "")
        keys |= {"model.source": "hub", "model.repository": found["repository"], "model.revision": revision or "main"}
        keys |= {"model.path": None, "model.file": label if is_file else None}
        keys |= {"quant.name": name, "quant.label": None if is_file else label}
        return Weights(name, keys, re.sub(r"[-_.]gguf$", "", repository, flags=re.IGNORECASE))
    if word.lower().endswith(".gguf"):
        name = _stem(word)
        keys |= {"model.source": "path", "model.path": word, "model.repository": None, "model.revision": "main"}
        return Weights(name, keys | {"quant.name": name, "quant.label": None}, None)
    raise UserError(
        f"weights={word}: name a file of the Hub as OWNER/NAME:LABEL, such as bartowski/Qwen3-8B-GGUF:Q4_K_M, "
        "or one on this machine as PATH.gguf."
    )


def apply_weights(composed: DictConfig) -> DictConfig:
    """Fill in what `weights` stands for.

    Args:
        composed: a job's configuration, interpolations not resolved; it is not changed.

    Raises:
        UserError: `weights` names none.
    """
    if composed.weights is None:
        return composed
    composed = copy.deepcopy(composed)
    OmegaConf.set_readonly(composed, False)
    for key, value in parse_weights(composed.weights).keys.items():
        OmegaConf.update(composed, key, value)
    return composed


def _stem(file: str) -> str:
    return _PART.sub("", PurePath(file).name[: -len(".gguf")])
