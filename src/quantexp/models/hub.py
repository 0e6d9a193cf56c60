"""Models on the Hugging Face Hub: which files a quant is, and having them here, whole and verified."""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from quantexp.config import ModelConfig, QuantConfig
from quantexp.models.checksums import NAME, Download, downloads
from quantexp.models.download import WAY_OUT, Listed, Missing, check_targets, download
from quantexp.models.gguf import hashed, list_parts
from quantexp.models.listing import describe_choice, describe_others, explain_foreign_type, select_files
from quantexp.util.errors import UserError
from quantexp.util.files import write_atomically
from quantexp.util.huggingface import hub_errors, quiet_unless_terminal

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

log = logging.getLogger(__name__)

COMMIT = re.compile("[0-9a-f]{40}")

LONGEST_NAME = 255
"""Bytes of a file's name in the file systems in use."""


def find_downloaded(model: ModelConfig, quant: QuantConfig) -> Path | None:
    """Return the quant's file (the first of several parts) if all of it was downloaded before; None otherwise.

    Raises:
        UserError: several files fit the quant's name.
    """
    folder, repository = _folder(model), _repository(model)
    known = [each for each in downloads(folder) if each.repository == repository and _is_asked_for(each, model)]
    here = {each.name for each in known if (folder / each.path).is_file()}
    listed = {name for commit in {each.commit for each in known} for name in _recall_names(folder, repository, commit)}
    # A file that is not here may fit better than those that are.
    names = select_files(model, quant, sorted(here | listed))
    return folder / repository / names[0] if names and here.issuperset(names) else None


def check(path: Path, model: ModelConfig, cache: Path) -> None:
    """Compare a downloaded file, and its other parts, with SHA256SUMS; only what has changed since is read again.

    Raises:
        UserError: its bytes are not those that were downloaded.
    """
    folder = _folder(model)
    for part in list_parts(path):
        expected = {folder / each.path: each.sha256 for each in downloads(folder)}.get(part)
        if expected is not None and (found := hashed(part, cache)) != expected:
            raise UserError(
                f"{part} hashes to {found}, but {folder / NAME} says {expected}: it has changed since it was "
                "downloaded; delete it and run the same command again, which fetches it anew."
            )


def fetch(wanted: Iterable[tuple[ModelConfig, QuantConfig]], cache: Path) -> None:
    """Download what is not here yet, verify it, and list it in SHA256SUMS.

    Nothing is downloaded before all of it is known to exist and to fit the disk. An interrupted download is resumed.

    Args:
        wanted: models and quants; those that are here already cost nothing.
        cache: folder in which the hash of each file is remembered.

    Raises:
        UserError: the Hub cannot be reached or refuses, there is no such file, the disk has too little room, a
            file's bytes are not those that the Hub announced, or a file of the user's own is in its place.
    """
    by_folder: dict[Path, list[Missing]] = defaultdict(list)
    for model, quant in wanted:
        if (
            find_downloaded(model, quant) is None
            and (missing := _missing(model, quant)) not in by_folder[_folder(model)]
        ):
            by_folder[_folder(model)].append(missing)
    for folder, missing_here in by_folder.items():
        folder.mkdir(parents=True, exist_ok=True)
        _note_names(folder, missing_here)
        check_targets(folder, missing_here, cache)
    for folder, missing_here in by_folder.items():
        for missing in missing_here:
            for file in missing.files:
                download(folder, missing, file, cache)


def _note_names(folder: Path, missing: Iterable[Missing]) -> None:
    """Keep the repositories' lists of files beside the downloads, for when there is no Hub to ask."""
    for each in missing:
        _, listed = _listings[each.repository, each.revision]
        path = _names_file(folder, each.repository, each.commit)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "".join(f"{file.name}\n" for file in listed).encode())


def _recall_names(folder: Path, repository: str, commit: str) -> list[str]:
    """Return the names of the files that the repository has at a commit, as far as they were kept."""
    path = _names_file(folder, repository, commit)
    return path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else []


def _names_file(folder: Path, repository: str, commit: str) -> Path:
    return folder / repository / f".files-at-{commit[:12]}"


def _missing(model: ModelConfig, quant: QuantConfig) -> Missing:
    """Return the files to be fetched for a quant, as the Hub describes them."""
    repository = _repository(model)
    commit, listed = _listing(model)
    there = [file.name for file in listed]
    names = select_files(model, quant, there)
    asked = f"model.file={model.file}" if model.file else f"quant={quant.name}"
    asked = f"weights={repository}:{quant.label}" if quant.label else asked
    if not names:
        instead = describe_others(quant, there)
        at = model.revision if model.revision == commit else f"{model.revision}, commit {commit[:12]}"
        raise UserError(f"{asked}: {repository} has no such file at revision {at}; {instead}.")
    if foreign := explain_foreign_type(names[0], there):
        raise UserError(f"{asked}: {foreign}.")
    for note in describe_choice(model, quant, names, there):
        log.info("%s", note)
    return Missing(repository, model.revision, commit, tuple(file for file in listed if file.name in names))


_listings: dict[tuple[str, str], tuple[str, list[Listed]]] = {}
"""What the Hub has said in this process: the quants of a sweep share a repository."""


def _listing(model: ModelConfig) -> tuple[str, list[Listed]]:
    """Return the commit that the revision stands for, and its files."""
    repository, revision = _repository(model), model.revision
    key = (repository, revision)
    if key not in _listings:
        quiet_unless_terminal()
        log.info("asking the Hub for %s", repository)
        with hub_errors(repository, revision, WAY_OUT):
            info = _state(model)
        listed = [
            Listed(each.rfilename, each.size or 0, each.lfs.sha256 if each.lfs else None)
            for each in info.siblings or []
        ]
        if unfit := [repr(each.name) for each in listed if not _is_a_path_below(each.name)]:
            log.warning(
                "leaving out %s file(s) of %s, whose names cannot be those of files in a folder: %s%s",
                len(unfit), repository, ", ".join(unfit[:5]), ", ..." if len(unfit) > 5 else "",
            )  # fmt: skip
        _listings[key] = (str(info.sha), [each for each in listed if _is_a_path_below(each.name)])
    return _listings[key]


def _state(model: ModelConfig) -> "ModelInfo":
    """Return the Hub's files at the revision; of a branch, at the commit that earlier downloads were of."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    repository, revision = _repository(model), model.revision
    info = HfApi().model_info(repository, revision=revision, files_metadata=True)
    before = _commit_here(model)
    if before is None or before == info.sha:
        return info
    # Files of two commits in one ladder would be two models under one name.
    try:
        earlier = HfApi().model_info(repository, revision=before, files_metadata=True)
    except RevisionNotFoundError as error:
        raise UserError(
            f"{revision} of {repository} has moved to commit {info.sha}, and commit {before}, which the files here "
            f"are of, is gone from the Hub; set model.revision={info.sha} to take the new state."
        ) from error
    log.warning(
        "%s of %s has moved to commit %s; what is here is of %s, and so will be the rest "
        "(model.revision=%s takes the new state)",
        revision, repository, str(info.sha)[:12], before[:12], info.sha,
    )  # fmt: skip
    return earlier


def _is_a_path_below(name: str) -> bool:
    """Return whether a name that a Hub has sent stays inside its folder, and can be shown and listed."""
    if not name.isprintable() or "\\" in name or PureWindowsPath(name).drive:
        return False
    folders = name.split("/")
    return not {"", ".", ".."} & set(folders) and max(len(each.encode()) for each in folders) <= LONGEST_NAME


def _commit_here(model: ModelConfig) -> str | None:
    """Return the commit that earlier downloads under the same branch were of."""
    if COMMIT.fullmatch(model.revision):
        return None
    asked = (_repository(model), model.revision)
    return next((each.commit for each in downloads(_folder(model)) if (each.repository, each.revision) == asked), None)


def _is_asked_for(download: Download, model: ModelConfig) -> bool:
    return model.revision in {download.commit, download.revision}


def _folder(model: ModelConfig) -> Path:
    return Path(model.folder).expanduser().absolute()


def _repository(model: ModelConfig) -> str:
    if not model.repository or not re.fullmatch(r"[\w.-]+/[\w.-]+", model.repository):
        raise UserError(
            f"model={model.name} needs model.repository=OWNER/NAME, a repository of the Hub"
            + (f", not {model.repository}." if model.repository else ".")
        )
    if not model.revision.strip():
        raise UserError("model.revision is empty; set it to a commit, or to a branch such as main.")
    return model.repository
