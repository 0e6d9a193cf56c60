"""A look at the files of a sweep before its first job: they are listed, are of one model, and share a chat template."""

import logging
from collections.abc import Sequence
from pathlib import Path

from quantexp.config import Config
from quantexp.config.condition import parse_baseline
from quantexp.models.base_model import check_same_model, keep_template, read_template
from quantexp.models.contents import Contents, describe_misnomer, read_contents
from quantexp.models.download import format_size
from quantexp.models.folder import describe_labels, describe_left_out, read_folder
from quantexp.models.gguf import UNKNOWN
from quantexp.models.sources import cache_folder, source_path
from quantexp.util.errors import UserError
from quantexp.util.native.file_types import list_quants, name_quant
from quantexp.util.terminal import one_line

log = logging.getLogger(__name__)


def review_files(jobs: Sequence[Config]) -> Path | None:
    """List the files that a folder or `weights` has brought into a sweep, and compare what their headers say.

    Args:
        jobs: of the sweep; the files are there.

    Returns:
        A chat template that all jobs are to use; None if each may use its own file's, or nothing has brought them.

    Raises:
        UserError: a file cannot be read, or two are not of one model.
    """
    first, chosen = jobs[0], {job.quant.name: job for job in jobs}
    brought = all(job.weights is not None or job.model.source == "folder" for job in jobs)
    if not brought or len(chosen) == 1:
        return None
    wanted = parse_baseline(first.stats.baseline).weights
    files = {name: source_path(job.model, job.quant) for name, job in chosen.items()}
    contents = {name: _read(path, first) for name, path in files.items()}
    for name, each in contents.items():
        role = ", the baseline" if name == wanted else ""
        log.info("%s", one_line(f"{name}{role}: {_describe(each)}", 500))
    for name, job in chosen.items():
        _warn_of_name(job.quant.label or name, contents[name])
    _tell_folder(first, list(files))
    baseline = contents.get(wanted, next(iter(contents.values())))
    others = [each for each in contents.values() if each is not baseline]
    way = "leave one of them out"
    check_same_model(baseline, others, f"{way}, with quant=A,B" if first.model.source == "folder" else way)
    if any(job.model.chat_template is not None or job.engine.name != "llama_cpp" for job in jobs):
        return None
    return _choose_template(first, baseline, others)


def _read(path: Path, job: Config) -> Contents:
    try:
        return read_contents(path)
    except UserError as error:
        if job.model.source != "folder":
            raise
        raise UserError(f"{str(error).removesuffix('.')}, or leave it out, with quant=A,B.") from error


def _describe(contents: Contents) -> str:
    """Describe a file: its name, its size and what it holds."""
    path, *more = contents.paths
    size = format_size(sum(part.stat().st_size for part in contents.paths))
    parts = f" in {1 + len(more)} parts" if more else ""
    return f"{path.name}, {size}{parts}, holds {describe_misnomer(contents) or contents.file_type}"


def _warn_of_name(label: str, contents: Contents) -> None:
    """Warn of a file whose name says one of llama.cpp's types and whose header says another."""
    named = list_quants().get(label.upper())
    if named is not None and contents.file_type != UNKNOWN and name_quant(named) != contents.file_type:
        log.warning("%s is named %s, and says that it holds %s", contents.paths[0].name, label, contents.file_type)


def _tell_folder(job: Config, names: Sequence[str]) -> None:
    """Tell what else there is in the folder."""
    if job.model.source != "folder":
        return
    folder = read_folder(str(job.model.path))
    for sentence in describe_labels(folder.files):
        log.info("%s", sentence)
    if left := [label for label in folder.labels if label not in names]:
        log.info("not asked for: %s", ", ".join(left))
    if folder.left_out:
        log.info("%s", one_line(describe_left_out(folder.left_out), 1000))


def _choose_template(job: Config, baseline: Contents, others: Sequence[Contents]) -> Path | None:
    """Return the baseline's chat template, in a file of its own, if another file has another one."""
    template = read_template(baseline)
    differing = [each.paths[0] for each in others if read_template(each) != template]
    if not differing or not template.strip():
        return None
    path = keep_template(template, cache_folder(job.model))
    log.warning(
        "%s: another chat template than in %s, whose is used for all (sha256 %s; model.chat_template=FILE chooses one)",
        ", ".join(map(str, differing)), baseline.paths[0], path.stem[:12],
    )  # fmt: skip
    return path
