"""`python -m quantexp.models fetch|verify|list|inspect`: the model files, apart from any job."""

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from quantexp import models
from quantexp.config import Config, ModelConfig, QuantConfig
from quantexp.config.command_line import COMMANDS, versions
from quantexp.config.composition import compose_jobs, compose_option
from quantexp.config.hydra_schemas import register_schemas
from quantexp.models.checksums import NAME, downloads
from quantexp.models.contents import Contents, read_contents
from quantexp.models.download import format_size
from quantexp.models.expansion import expand_words
from quantexp.models.gguf import ModelFile, hashed, remember
from quantexp.models.inspection import ChatFacts, describe_contents, print_contents
from quantexp.models.sources import cache_folder
from quantexp.util import job_process
from quantexp.util.error_reports import report_errors
from quantexp.util.errors import UserError
from quantexp.util.files import hash_file
from quantexp.util.terminal import say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


EPILOG = """\
examples:
  python -m quantexp.models fetch experiment=quant-cliff
  python -m quantexp.models fetch model=qwen2.5-1.5b-instruct quant=Q8_0,Q4_K_M
  python -m quantexp.models list
  python -m quantexp.models verify --full
  python -m quantexp.models inspect my-Q4_K_M.gguf
  python -m quantexp.models inspect quant=Q8_0,Q3_K_M --json

FILE is a GGUF. OVERRIDE is what `python -m quantexp` takes; several values of a key (quant=Q8_0,Q4_K_M) need no -m.
The other commands: python -m quantexp --help"""


@dataclass(frozen=True, slots=True)
class _Options:
    """Flags of the command line, and the files to inspect; without files those of the jobs are."""

    full: bool
    json: bool
    files: Sequence[Path]


def _fetch(jobs: Sequence[Config], _: _Options) -> bool:
    """Download, or make, what the jobs need and is not here."""
    console = _console()
    for model, quant, file in _resolve(jobs):
        _say(console, f"{model.name} {quant.name}: {file.path} ({format_size(file.bytes)}, sha256 {file.sha256})")
    return True


def _verify(jobs: Sequence[Config], options: _Options) -> bool:
    """Compare every downloaded file with SHA256SUMS."""
    console = _console()
    sound = True
    for folder in _folders(jobs):
        known = downloads(folder)
        if not known:
            raise UserError(f"{folder / NAME} lists no downloads; fetch a model first, or name its model.folder.")
        for each in known:
            path, cache = folder / each.path, cache_folder(jobs[0].model)
            if not path.is_file():
                verdict = "MISSING"
            else:
                if options.full:
                    remember(path, cache, hash_file(path))
                verdict = "OK" if hashed(path, cache) == each.sha256 else "CHANGED"
            sound = sound and verdict == "OK"
            _say(console, f"{each.path}: {verdict}")
        _say(console, f"{'all as downloaded' if sound else 'not all as downloaded'} ({folder})")
    return sound


def _list(jobs: Sequence[Config], _: _Options) -> bool:
    """List what is in the folder of downloads, and the models there are to choose from."""
    from rich.markup import escape

    console = _console()
    for folder in _folders(jobs):
        table = _table("file", "size", "commit", "sha256", title=str(folder))
        for each in downloads(folder):
            path = folder / each.path
            size = format_size(path.stat().st_size) if path.is_file() else "missing"
            table.add_row(escape(_printable(each.path)), size, each.commit[:12], each.sha256[:12])
        if table.row_count:
            console.print(table)
        else:
            _say(console, f"nothing downloaded yet in {folder}")
    choices = _table("model", "from", "licence", title="to choose from")
    loader = GlobalHydra.instance().config_loader()
    for option in loader.get_group_options("model"):
        config = cast(ModelConfig, OmegaConf.merge(OmegaConf.structured(ModelConfig), compose_option("model", option)))
        any_other = {"hub": "any repository", "folder": "your folder"}.get(config.source, "your file")
        place = config.repository or config.package or any_other
        choices.add_row(option, str(place), config.licence)
    console.print(choices)
    return True


def _inspect(jobs: Sequence[Config], options: _Options) -> bool:
    """Show what GGUF files hold: those named, or those of the jobs."""
    files = options.files or [Path(file.path) for *_, file in _resolve(jobs)]
    found = [describe_contents(contents, _describe_chat(contents)) for contents in map(read_contents, files)]
    if options.json:
        sys.stdout.write(json.dumps([asdict(each) for each in found], indent=1) + "\n")
        return True
    console = _console()
    for each in found:
        print_contents(each, console)
    return True


def _describe_chat(contents: Contents) -> ChatFacts | None:
    """Describe the chat template in a file; None if it has none."""
    from quantexp.engines.chat_template import ChatTemplate
    from quantexp.tasks.reasoning import choose_format

    template = str(contents.metadata.get("tokenizer.chat_template", ""))
    if not template.strip():
        return None
    digest = hashlib.sha256(template.encode()).hexdigest()
    reasoning = choose_format(template, contents.special).name
    try:
        return ChatFacts(digest, ChatTemplate(template, "", "").arguments, reasoning, "")
    except UserError as error:
        return ChatFacts(digest, (), reasoning, str(error))


def _resolve(jobs: Sequence[Config]) -> Iterator[tuple[ModelConfig, QuantConfig, ModelFile]]:
    """Yield the model files that the jobs need, after all their sources are here."""
    wanted = list({repr((job.model, job.quant)): (job.model, job.quant) for job in jobs}.values())
    job_process.call(models.prepare, wanted)
    for model, quant in wanted:
        yield model, quant, job_process.call(models.resolve, model, quant)[0]


ACTIONS = {"fetch": _fetch, "verify": _verify, "list": _list, "inspect": _inspect}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m quantexp.models",
        description=COMMANDS["quantexp.models"].purpose,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=ACTIONS, help="what to do")
    parser.add_argument("--full", action="store_true", help="verify: read every byte again, even of unchanged files")
    parser.add_argument("--json", action="store_true", help="inspect: print a list of files as JSON")
    parser.add_argument("-m", "--multirun", action="store_true", help="changes nothing; a sweep's arguments have it")
    parser.add_argument("words", nargs="*", metavar="FILE|OVERRIDE", help="a GGUF to inspect; KEY=VALUE of a job")
    parser.add_argument("--version", action="version", version=versions())
    given = parser.parse_intermixed_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    register_schemas("schema")
    with report_errors(), initialize_config_module("quantexp.conf", version_base="1.3"):
        is_file = given.command == "inspect" and given.words and not _has_overrides(given.words)
        options = _Options(given.full, given.json, [Path(word).expanduser() for word in given.words if is_file])
        jobs = list(compose_jobs(_composed([] if is_file else expand_words(given.words))))
        if not ACTIONS[given.command](jobs, options):
            sys.exit(1)


def _has_overrides(words: Sequence[str]) -> bool:
    """Return whether what is to be inspected is given as a configuration.

    Raises:
        UserError: files are named beside it.
    """
    overrides = ["=" in word and not Path(word).expanduser().is_file() for word in words]
    if any(overrides) and not all(overrides):
        raise UserError("inspect takes files, or keys such as quant=Q8_0, and not both at once.")
    return all(overrides)


def _composed(overrides: Sequence[str]) -> DictConfig:
    """Return the configuration as a sweep composes it, with Hydra's own part."""
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    return hydra.compose_config("config", list(overrides), run_mode=RunMode.MULTIRUN, from_shell=False)


def _folders(jobs: Sequence[Config]) -> list[Path]:
    return list(dict.fromkeys(Path(job.model.folder).expanduser().absolute() for job in jobs))


def _console() -> "Console":
    from rich.console import Console

    return Console()


def _table(*columns: str, title: str) -> "Table":
    """Return a table whose cells are folded where they are too wide: half a name is of no use on a command line."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(_printable(title)), title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _say(console: "Console", text: str) -> None:
    say(console, _printable(text))


def _printable(text: str) -> str:
    """Return the text without what a terminal would obey or could not show: SHA256SUMS may hold any bytes."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


if __name__ == "__main__":
    main()
