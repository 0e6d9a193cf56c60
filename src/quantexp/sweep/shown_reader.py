"""The line under a shown configuration that says how `model.reasoning=auto` reads the model's outputs."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path

from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf

from quantexp.config import EngineConfig, ModelConfig, PromptForm, QuantConfig
from quantexp.config.hydra_sources import parse_config
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

_AUTO = "auto"


_SECTIONS = {"model": ModelConfig, "quant": QuantConfig, "engine": EngineConfig}
"""What is looked at, with its types; the rest of a job is only what this may refer to."""


@contextmanager
def reader_shown(arguments: Sequence[str]) -> Iterator[None]:
    """Print a comment after the configuration that Hydra shows within, if the arguments ask for all of a job's."""
    given, _ = get_args_parser().parse_known_args(list(arguments))
    if given.cfg != "job" or given.package:
        yield
        return
    page = StringIO()
    try:
        with redirect_stdout(page):
            yield
    finally:
        sys.stdout.write(page.getvalue())
    if (line := describe_reader(parse_config(page.getvalue()))) is not None:
        print(f"# model.reasoning: {one_line(line, 1000)}")  # noqa: T201


def describe_reader(shown: DictConfig) -> str | None:
    """Say how `auto` reads a job's outputs; None if the configuration itself says how they are read."""
    config = shown.copy()
    for name, section in _SECTIONS.items():
        config[name] = OmegaConf.merge(OmegaConf.structured(section), config[name])
    if config.model.reasoning != _AUTO:
        return None
    if config.engine.name == "openai" and config.engine.prompt is PromptForm.messages:
        return "auto takes the reasoning that the server sends apart, and reads as think what it leaves in an answer"
    if missing := OmegaConf.missing_keys(config.model) | OmegaConf.missing_keys(config.quant):
        return f"auto is known once {', '.join(sorted(missing))} is given"
    model, quant = OmegaConf.to_object(config.model), OmegaConf.to_object(config.quant)
    assert isinstance(model, ModelConfig)
    assert isinstance(quant, QuantConfig)
    try:
        return _read(model, quant)
    except UserError as error:
        return f"auto is not known yet: {error}"


def _read(model: ModelConfig, quant: QuantConfig) -> str:
    """Read the format off the model's file, as the engine will.

    Raises:
        UserError: the file is not there, or cannot be read.
    """
    # Only now: an explicit value needs none of it.
    from quantexp.models.contents import read_contents
    from quantexp.models.sources import source_path
    from quantexp.tasks.reasoning import choose_format

    path: Path | None
    if model.source == "hub":
        from quantexp.models.hub import find_downloaded

        path = find_downloaded(model, quant)
    else:
        path = source_path(model, quant)
    if path is None:
        return (
            "auto is known once the file is downloaded; then python -m quantexp.models inspect "
            f"{Path(model.folder) / str(model.repository) / 'FILE'} says it too"
        )
    contents = read_contents(path)
    template, origin = str(contents.metadata.get("tokenizer.chat_template", "")), path.name
    if model.chat_template is not None:
        from quantexp.engines.chat_template import read_template

        template, origin = read_template(model.chat_template), model.chat_template
    found = choose_format(template, contents.special).name
    if template.strip():
        return f"auto reads as {found}, from the chat template of {origin}"
    return f"auto reads as {found}, from the vocabulary of {path.name}, which has no chat template"
