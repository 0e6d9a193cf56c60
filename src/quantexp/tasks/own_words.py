"""Tasks that bring their own items, and ask them in words of their own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantexp.tasks.base import Task
from quantexp.tasks.items import Dataset, Item
from quantexp.tasks.requests import ItemRequests, Message

CountTokens = Callable[[Sequence[Message]], int]
"""Returns the tokens of a chat as the model is given it; 0 if only a server knows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnWordsTask(Task):
    """A task of which `data` and `prompt` have no part.

    Attributes:
        load: returns the items.
        ask: returns the requests of items by their ids; its second argument is the system turn of chats, the third
            counts tokens, for words that are made to measure.
        settings: keys of its configuration that the task decides itself, with their values.
    """

    load: Callable[[], Dataset]
    ask: Callable[[Sequence[Item], str, CountTokens], Mapping[str, ItemRequests]]
    settings: Mapping[str, Any]
