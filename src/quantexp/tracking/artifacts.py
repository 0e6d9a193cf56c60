"""Reading back what runs have left as files, which may be damaged since, or somebody else's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import pandas as pd
import yaml
from omegaconf import OmegaConf

from quantexp.config import Config
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

T = TypeVar("T")

LARGEST = 1 << 18
"""Bytes of a YAML file that quantexp wrote; those of a job have some thousands."""


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a table of a run, or some of its columns.

    Raises:
        UserError: it is not there, or damaged.
    """
    import pyarrow  # only now, with the first table: a heavy import

    try:
        return pd.read_parquet(path, columns=None if columns is None else list(columns))
    except (pyarrow.ArrowException, OSError) as error:
        gone = isinstance(error, FileNotFoundError)
        if isinstance(error, OSError) and error.errno is not None and not gone:  # the system's refusal
            raise
        what = "is gone" if gone else f"is damaged ({one_line(str(error)).rstrip('.')})"
        raise UserError(
            f"{path} {what}; put it back from a copy, or run its job again with force=true, which takes the answers "
            "from the completion store."
        ) from error


def read_yaml(text: bytes | str, where: str) -> dict[str, Any]:
    """Return a mapping in a YAML file that quantexp wrote: plain values, of which none refers to anything.

    OmegaConf would put what `${oc.env:NAME}` stands for in its place, and the file may be somebody else's.

    Raises:
        UserError: it is no such file.
    """
    if len(text) > LARGEST:
        raise UserError(f"{where} is damaged (it is longer than {LARGEST} bytes); put it back from a copy.")
    try:
        content = yaml.load(text, _PlainLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UserError(f"{where} is damaged ({one_line(str(error))}); put it back from a copy.") from error
    if not isinstance(content, dict):
        raise UserError(f"{where} is damaged (it holds no keys); put it back from a copy.")
    return content


def read_section(path: Path, name: str, schema: type[T]) -> T:
    """Return a part of a run's config.yaml.

    Raises:
        UserError: it is damaged, or refers to something outside of it.
        OmegaConfBaseException: a value is not what the schema says.
    """
    with path.open("rb") as file:
        section = read_yaml(file.read(LARGEST + 1), str(path)).get(name)
    if not isinstance(section, dict):
        raise UserError(f"{path} is damaged (it has no {name}); put it back from a copy.")
    _refuse_references(section, path)
    merged = OmegaConf.merge(OmegaConf.structured(schema), section)
    return cast(T, OmegaConf.to_object(merged))


def read_config(path: Path) -> Config:
    """Return the configuration of a run's job, from its config.yaml.

    Raises:
        UserError: it is not there, damaged, or refers to something outside of it.
        OmegaConfBaseException: a value is not what the schema says.
    """
    if not path.is_file():
        raise UserError(f"{path} is gone; put it back from a copy.")
    with path.open("rb") as file:
        content = read_yaml(file.read(LARGEST + 1), str(path))
    _refuse_references(content, path)
    return cast(Config, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), content)))


def _refuse_references(content: object, path: Path) -> None:
    if reference := next((text for text in _texts(content) if "${" in text), None):
        raise UserError(f"{path} holds {one_line(reference)}, which is not looked up in a file from a store.")


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Loader of plain values: a few hundred bytes that refer to each other can mean billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next node, unless it is another one's alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it holds an alias, which quantexp never writes")
        return super().compose_node(parent, index)


def _texts(value: object) -> list[str]:
    """All texts in a value, keys included."""
    if isinstance(value, dict):
        return [text for pair in value.items() for each in pair for text in _texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []
