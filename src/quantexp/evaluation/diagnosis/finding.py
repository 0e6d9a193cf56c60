"""Finding of a check."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's.

    Attributes:
        check: name of what was looked at.
        status: `broken` if quantexp cannot do its work, `warning` if it does so less well.
        text: what was found.
        mend: what to type, or else to do; empty if there is nothing to mend.
    """

    check: str
    status: Status
    text: str
    mend: str = ""
