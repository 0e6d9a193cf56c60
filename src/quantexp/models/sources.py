"""Sources of models: the place of a model's bytes on this machine."""

from importlib.util import find_spec
from pathlib import Path

from platformdirs import user_cache_path

from quantexp.config import ModelConfig, QuantConfig
from quantexp.models.folder import find_in_folder
from quantexp.util.errors import UserError


def cache_folder(model: ModelConfig) -> Path:
    """Return the folder for files that can be made again: `model.cache`, else this system's cache folder.

    Raises:
        OSError: it cannot be created.
    """
    folder = Path(model.cache).expanduser() if model.cache else user_cache_path("quantexp")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def source_path(model: ModelConfig, quant: QuantConfig) -> Path:
    """Return the source file of the model; one on the Hub is downloaded unless it was before.

    Raises:
        UserError: the package or the file is not there, or the configuration names none.
    """
    match model.source:
        case "package":
            return _in_package(model)
        case "hub":
            from quantexp.models import hub  # only now: of all sources it takes the longest to import

            cache = cache_folder(model)
            if (path := hub.find_downloaded(model, quant)) is None:
                hub.fetch([(model, quant)], cache)
                path = hub.find_downloaded(model, quant)
                assert path is not None, "fetch has recorded it"
            hub.check(path, model, cache)
            return path
        case "path":
            path = Path(_needed(model, "path")).expanduser()
            if not path.is_file():
                raise UserError(
                    f"model.path={model.path} is not a file; give the path of a GGUF, "
                    f"absolute or relative to {Path.cwd()}."
                )
            return path.resolve()
        case "folder":
            return find_in_folder(model, quant)
        case other:
            raise UserError(f"model.source={other} is unknown; choose package, hub, path, folder or server.")


def _in_package(model: ModelConfig) -> Path:
    """Find the file without importing the package, whose import may pull in far more than a file."""
    package, file = _needed(model, "package"), _needed(model, "file")
    spec = find_spec(package) if package.isidentifier() else None  # for a.b it would import a
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"model={model.name} needs the Python package {package.replace('_', '-')}, which is not installed; "
            'run: pip install "quantexp[demo]"'
        )
    for folder in spec.submodule_search_locations:
        path = Path(folder) / file
        if path.is_file():
            return path.resolve()
    raise UserError(
        f"The package {package.replace('_', '-')} has no file {file}; install the version that "
        'quantexp was made for: pip install "quantexp[demo]"'
    )


def _needed(model: ModelConfig, key: str) -> str:
    value = getattr(model, key)
    if not value:
        raise UserError(f"model={model.name} needs model.{key}; add model.{key}=VALUE to the command.")
    return str(value)
