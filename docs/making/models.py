"""The model options: licence, reasoning and recommended sampling of each, read from conf/model."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from making.keys import escaped
from quantexp.config.reference import CONF

UNCHECKED = re.compile(r"^# Not checked against the Hub: (.+)\.$", flags=re.MULTILINE)
"""The comment of an option that was written without a look at the Hub; what was not checked."""


def models() -> str:
    """Markdown of the options that name a model, a row each."""
    lines = [
        "| `model=` | files | licence | reasoning | sampling that is recommended | not checked |",
        "|---|---|---|---|---|---|",
    ]
    files = sorted((CONF / "model").glob("*.yaml"), key=lambda file: file.stem.casefold())
    return "\n".join([*lines, *(_row(file) for file in files if _place(_load(file)))])


def _row(file: Path) -> str:
    option = _load(file)
    unchecked = UNCHECKED.search(file.read_text(encoding="utf-8"))
    cells = [
        f"`{file.stem}`",
        _place(option),
        escaped(option["licence"]),
        f"`{option.get('reasoning', 'auto')}`",
        _recommended(option.get("sampling", {})) or "—",
        unchecked[1] if unchecked else "—",
    ]
    return f"| {' | '.join(cells)} |"


def _load(file: Path) -> Mapping[str, Any]:
    option = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(option, dict)
    return {str(key): value for key, value in option.items()}


def _place(option: Mapping[str, Any]) -> str:
    """Return where an option's files come from; empty if that is the user's to say."""
    if option["source"] == "hub" and option["repository"] != "???":
        return f"[{option['repository']}](https://huggingface.co/{option['repository']})"
    return f"the package `{option['package']}`" if option["source"] == "package" else ""


def _recommended(sampling: Mapping[str, Any]) -> str:
    modes = {"thinking": "thinking", "non_thinking": "not thinking"}
    said = [
        f"{words}: {', '.join(f'`{key}` {value}' for key, value in sampling[mode].items())}"
        for mode, words in modes.items()
        if mode in sampling
    ]
    return "; ".join([*said, *(["not greedy"] if sampling.get("greedy_warning") else [])])
