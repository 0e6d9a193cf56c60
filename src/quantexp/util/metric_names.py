"""Names that users choose, in the form that MLflow takes for metrics and parameters."""

import re

_LONGEST = 100
"""Characters; MLflow takes 250 in a whole name, which may hold two of these."""


def fold_name(name: str) -> str:
    """Turn the characters that MLflow refuses in a name, such as brackets, into spaces; a long name ends early."""
    return " ".join(re.sub(r"[^\w.\-]+", " ", name).split())[:_LONGEST].rstrip()
