"""Rows of a data set on the Hugging Face Hub, through its own library and cache."""

import logging
from collections.abc import Sequence
from typing import Any

from quantexp.config import DataConfig
from quantexp.errors import UserError
from quantexp.hub import hub_errors, quiet_unless_terminal

log = logging.getLogger(__name__)

WAY_OUT = "or choose data that need none (data=bundled, or data=files with your own)"
"""What to do without the Hub."""


def hub_rows(data: DataConfig, repository: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of one split, with these columns.

    What the library's cache holds of a commit is not asked for again, nor at all under HF_HUB_OFFLINE=1.

    Args:
        data: subset, split and revision.
        repository: owner/name.
        columns: top-level columns; others stay on the disk.

    Raises:
        UserError: the Hub cannot be reached or refuses, or there is no such subset, split or column.
    """
    # Only now: a heavy import that jobs on other data do without.
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    quiet_unless_terminal()
    log.info("reading %s, %s split, from the Hub or its cache", repository, data.split)
    of = f"{repository} at revision {data.revision}"
    try:
        # With the scheme: a folder of that name on this machine would be taken for the data set otherwise.
        name = f"hf://datasets/{repository}"
        rows = load_dataset(name, data.subset, split=data.split, revision=data.revision)
    except (ConnectionError, DatasetsError, FileNotFoundError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        _ask_why(repository, data.revision)
        raise UserError(
            f"{of} cannot be read ({_first_line(error)}); run the same command again, {WAY_OUT}."
        ) from error
    except ValueError as error:  # what the library says to a name that it does not find
        raise UserError(
            f"{of}: {_first_line(error)}; correct data.subset={data.subset} or data.split={data.split}."
        ) from error
    missing = [column for column in columns if column not in rows.column_names]
    if missing:
        raise UserError(
            f"{of} has no column {', '.join(missing)}; name others with data.columns (its columns: "
            f"{', '.join(rows.column_names)})."
        )
    found: list[dict[str, Any]] = rows.select_columns(list(columns)).to_list()
    return found


def _ask_why(repository: str, revision: str) -> None:
    """Ask the Hub directly: the library for data sets tries several ways, and does not say why none went.

    Raises:
        UserError: the reason, if the Hub gives one.
    """
    from datasets import config
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    with hub_errors(repository, revision, WAY_OUT):
        if config.HF_HUB_OFFLINE:
            raise OfflineModeIsEnabled
        HfApi().dataset_info(repository, revision=revision)
        HfApi().auth_check(repository, repo_type="dataset")  # a gated one tells everybody about itself, but no more


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
