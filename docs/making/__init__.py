"""What the documentation's pages take from the code: tables of keys and graders, and the figures.

In a page, `<!-- made: NAME -->` stands for a table of `TABLES`. The figures are drawn into docs/figures/, which is not
kept in the repository, before the pages are read.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from making.keys import commands, groups
from making.models import models
from making.tasks import cards, constraints, graders

if TYPE_CHECKING:
    from sphinx.application import Sphinx

TABLES: Mapping[str, Callable[[], str]] = {
    "groups": groups,
    "commands": commands,
    "constraints": constraints,
    "graders": graders,
    "cards": cards,
    "models": models,
}
"""Markdown by the name that pages call it."""

MARK = re.compile(r"^<!-- made: (\w+) -->$", flags=re.MULTILINE)


def filled(text: str) -> str:
    """Return a page's text with its tables in place.

    Raises:
        KeyError: it names a table that is not made.
    """
    return MARK.sub(lambda mark: TABLES[mark[1]](), text)


def _fill(_app: "Sphinx", _page: str, source: list[str]) -> None:
    source[0] = filled(source[0])


def _draw(app: "Sphinx") -> None:
    from making.figures import draw_all

    draw_all(Path(app.srcdir) / "figures")


def setup(app: "Sphinx") -> dict[str, bool]:
    """Connect to Sphinx, which calls this."""
    app.connect("builder-inited", _draw)
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True}
