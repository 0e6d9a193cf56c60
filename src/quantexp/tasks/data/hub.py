"""Rows of a data set on the Hugging Face Hub, through its own library and cache."""

import glob
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantexp.config import DataConfig
from quantexp.tasks.data.columns import format_columns, sources
from quantexp.util.errors import UserError
from quantexp.util.huggingface import chain, first_line, hub_address, hub_errors, network_error, quiet_unless_terminal

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder

log = logging.getLogger(__name__)

WAY_OUT = "or choose data that need none (data=bundled, or data=files with your own)"
"""What to do without the Hub."""

_COMMIT = re.compile("[0-9a-f]{40}")


def hub_rows(data: DataConfig, repository: str, fields: Sequence[str]) -> list[dict[str, Any]]:
    """Load the rows of one split, with the columns that a task's fields are made from, and id and difficulty if any.

    What the library's cache holds of a commit is read without a request. A branch is asked for its commit first; under
    HF_HUB_OFFLINE=1 it is the commit that it was when it was last read.

    Args:
        data: subset, split, revision and columns.
        repository: owner/name.
        fields: what the task needs; columns that have no part in it stay on the disk.

    Raises:
        UserError: the Hub cannot be reached or refuses, or there is no such subset, split or column.
    """
    # Only now: a heavy import that jobs on other data do without.
    from datasets.exceptions import DatasetGenerationError, DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    quiet_unless_terminal()
    logging.getLogger("datasets").setLevel(logging.CRITICAL)  # its errors too: each ends in a sentence here
    log.info("reading %s, %s split, from the Hub or its cache", repository, data.split)
    of = f"{repository} at revision {data.revision}"
    broken = f"its files there may be broken, so try another data.revision, {WAY_OUT}"
    try:
        rows = _rows(data, repository)
    except (ConnectionError, DatasetsError, FileNotFoundError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        if reason := _system_reason(error):
            raise UserError(
                f"{of} cannot be prepared: the system refused ({reason}); mend that, or set HF_HOME to another folder."
            ) from error
        _ask(repository, data.revision, whole=True)
        in_transit = not isinstance(error, DatasetGenerationError) or _from_network(error)
        cure = f"run the same command again, {WAY_OUT}" if in_transit else broken
        raise UserError(f"{of} cannot be read ({_innermost(error)}); {cure}.") from error
    except ValueError as error:
        said = first_line(error)
        if re.match("BuilderConfig .* not found|Unknown split|Config name is missing", said):
            cure = f"correct data.subset={data.subset} or data.split={data.split}"
            raise UserError(f"{of}: {said}; {cure}.") from error
        raise UserError(f"{of} cannot be read ({said}); {broken}.") from error
    except RuntimeError as error:
        if "Dataset scripts are no longer supported" not in str(error):
            raise
        raise UserError(
            f"{of} is made by a program of its own, which the library for data sets no longer runs; choose a revision "
            f"with data files (the Hub makes refs/convert/parquet of many), {WAY_OUT}."
        ) from error
    there = rows.column_names
    columns = sources(fields, data.columns, there)
    if missing := [column for column in columns if column not in there]:
        raise UserError(
            f"{of} has no column {format_columns(missing)}; name others with data.columns "
            f"(its columns: {format_columns(there)})."
        )
    columns += [column for column in ("id", "difficulty") if column in there and column not in columns]
    found: list[dict[str, Any]] = rows.select_columns(columns).to_list()
    return found


def _rows(data: DataConfig, repository: str) -> "Dataset":
    """Return the split, from the library's cache if that holds the commit."""
    from datasets import config, load_dataset_builder

    pinned = _COMMIT.fullmatch(data.revision) is not None
    if pinned:
        commit: str | None = data.revision
    elif config.HF_HUB_OFFLINE:
        commit = _last_read(repository, data.revision)
    else:
        commit = _ask(repository, data.revision)
    builder = _prepared(repository, data.subset, commit) if commit else None
    if builder is None:
        if pinned or commit is None:
            # The library would try for half a minute, and take another commit from its cache then.
            commit = _ask(repository, data.revision)
        # With the scheme: a folder of that name on this machine would be taken for the data set otherwise.
        builder = load_dataset_builder(f"hf://datasets/{repository}", data.subset, revision=data.revision)
        if builder.hash != commit:
            raise ConnectionError("the Hub stopped answering")
        builder.download_and_prepare()
    rows: Dataset = builder.as_dataset(split=data.split)
    return rows


def _prepared(repository: str, subset: str | None, commit: str) -> "DatasetBuilder | None":
    """Return what the library has made of this commit before, under the name of the commit."""
    from datasets import config
    from datasets.naming import camelcase_to_snakecase
    from datasets.packaged_modules.cache.cache import Cache

    subset = subset or _default_subset(repository, commit)
    if subset is None:
        return None
    *owner, name = repository.split("/")
    folder = Path(config.HF_DATASETS_CACHE).expanduser() / "___".join([*owner, camelcase_to_snakecase(name)])
    made = list(folder.glob(f"{glob.escape(subset)}/*/{commit}/dataset_info.json"))
    if len(made) != 1:
        return None
    version = made[0].parent.parent.name
    return Cache(dataset_name=name, repo_id=repository, config_name=subset, version=version, hash=commit)


def _default_subset(repository: str, commit: str) -> str | None:
    """Return the subset that the library takes if nobody names one, by the card in its cache; None if unknown."""
    from datasets import config
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard, try_to_load_from_cache

    other = try_to_load_from_cache(repository, config.REPOYAML_FILENAME, revision=commit, repo_type="dataset")
    card = try_to_load_from_cache(repository, config.REPOCARD_FILENAME, revision=commit, repo_type="dataset")
    if isinstance(other, str):
        return None
    subsets = MetadataConfigs()
    if isinstance(card, str):
        subsets = MetadataConfigs.from_dataset_card_data(DatasetCard.load(card).data)
    name: str | None = subsets.get_default_config_name() if subsets else "default"
    return name


def _last_read(repository: str, revision: str) -> str | None:
    """Return the commit that a branch was when it was last read; None if it never was."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repository, repo_type="dataset"))
    known = folder / "refs" / revision
    commit = known.read_text().strip() if known.is_file() else ""
    return commit if _COMMIT.fullmatch(commit) else None


def _ask(repository: str, revision: str, whole: bool = False) -> str:
    """Ask the Hub directly: the library for data sets tries several ways, and does not say why none went.

    With `whole` it is asked for access to the files, too.

    Returns:
        The commit.

    Raises:
        UserError: the reason, if the Hub gives one.
    """
    from datasets import config
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    try:
        with hub_errors(repository, revision, WAY_OUT):
            if config.HF_HUB_OFFLINE:
                raise OfflineModeIsEnabled
            commit = HfApi().dataset_info(repository, revision=revision).sha
            if whole:
                # A gated one tells everybody about itself, but no more.
                HfApi().auth_check(repository, repo_type="dataset")
    except HFValidationError as error:
        raise UserError(
            f"data.repository={repository} is not a name that the Hub has; write it as OWNER/NAME."
        ) from error
    except ValueError as error:  # an answer that is not JSON
        raise UserError(
            f"What answers at {hub_address()} is not the Hub, but perhaps the log-in page of a network; "
            f"log in there, or correct HF_ENDPOINT, {WAY_OUT}."
        ) from error
    return str(commit)


def _from_network(error: BaseException) -> bool:
    return any(isinstance(each, network_error() | ConnectionError | TimeoutError) for each in chain(error))


def _system_reason(error: BaseException) -> str | None:
    """Why the system refused, if that is what an error came from."""
    numbers = [each.errno for each in chain(error) if isinstance(each, OSError) and each.errno is not None]
    return os.strerror(numbers[-1]) if numbers and not _from_network(error) else None


def _innermost(error: BaseException) -> str:
    *_, last = chain(error)
    return first_line(last)
