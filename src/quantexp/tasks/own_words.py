"""Tasks that bring their own items, and ask them in words of their own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantexp.tasks.base import Task
from quantexp.tasks.items import Dataset, Item
from quantexp.tasks.requests import ItemRequests


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnWordsTask(Task):
    """A task of which `data` and `prompt` have no part.

    Attributes:
        load: returns the items.
        ask: returns the requests of items by their ids; its second argument is the system turn of chats.
        settings: keys of its configuration that the task decides itself, with their values.
    """

    load: Callable[[], Dataset]
    ask: Callable[[Sequence[Item], str], Mapping[str, ItemRequests]]
    settings: Mapping[str, Any]
