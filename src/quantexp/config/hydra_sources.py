"""Hydra's sources of configuration, of which a process reads each file of a package once.

Hydra parses all files again, and copies the types of all commands, whenever it composes. A command composes several
times, and `python -m quantexp.models list` once for each model.
"""

import pickle
from functools import cache
from typing import Any, cast

import yaml
from hydra._internal.core_plugins import importlib_resources_config_source, structured_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_yaml_loader

_read: dict[tuple[str, str, str], bytes] = {}
"""What files of packages hold, pickled, by provider, package and path; pickle copies some times as fast as deepcopy."""


class ImportlibResourcesConfigSource(importlib_resources_config_source.ImportlibResourcesConfigSource):
    """The files of a package, each read once."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Return a file's content, which the caller may change.

        Raises:
            hydra.plugins.config_source.ConfigLoadError: there is no such file.
        """
        place = self.provider, self.path, config_path
        if place not in _read:
            _read[place] = pickle.dumps(super().load_config(config_path))
        return cast(ConfigResult, pickle.loads(_read[place]))

    def _read_config(self, res: Any) -> ConfigResult:
        text = res.read_text(encoding="utf-8")
        place = f"{self.scheme()}://{self.path}"
        return ConfigResult(self.provider, place, parse_config(text), self._get_header_dict(text[:512]))


class StructuredConfigSource(structured_config_source.StructuredConfigSource):
    """The registered types; Hydra knows the source by the name of this class."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "StructuredConfigSource":
        """Return the source itself: it holds the one store, which copies what it gives."""
        return self


def parse_config(text: str) -> DictConfig:
    """Read a configuration that quantexp has written, as OmegaConf does, some times as fast.

    Raises:
        yaml.YAMLError: it is no YAML.
    """
    return OmegaConf.create(yaml.load(text, _make_loader()) or {})


@cache
def _make_loader() -> Any:
    """Return OmegaConf's loader with libyaml's parser in the place of the one in Python, if it is there."""
    loader = get_yaml_loader()
    if not yaml.__with_libyaml__:
        return loader

    class Loader(yaml.cyaml.CParser, loader):  # type: ignore[misc, valid-type]
        def __init__(self, stream: str) -> None:
            yaml.cyaml.CParser.__init__(self, stream)
            yaml.constructor.SafeConstructor.__init__(self)
            yaml.resolver.Resolver.__init__(self)

    return Loader


def register_sources() -> None:
    """Have Hydra take these for its own; its plugins must have been found."""
    types = SourcesRegistry.instance().types
    for source in (ImportlibResourcesConfigSource, StructuredConfigSource):
        types[source.scheme()] = source
