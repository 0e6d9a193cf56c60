"""Identity of a job's scores besides the quant and the seed, and the differences of two jobs in it."""

from collections.abc import Iterable, Mapping, Sequence

from quantexp.config.condition import get_factor

Identity = Mapping[str, Mapping[str, object]]
"""A mapping per aspect: model, data, prompt, reader, grader, settings."""

NO_READER = "none-v1"
"""Id of the answer reader of all runs before readers were recorded: the whole output is the answer."""


WORDS = "words_sha256"
"""Entry of a prompt's identity that its chat template does not change; it counts where templates are compared."""


def share_identity(identity: Identity, varying: Iterable[str]) -> Identity:
    """Return an identity without what follows from these factors; the same mapping if nothing does."""
    dropped = {entry for name in varying for entry in get_factor(name).entries}
    if "prompt.sha256" not in dropped:
        dropped.add(f"prompt.{WORDS}")  # the hash of the whole prompt says more, and earlier versions had no other
    found = {
        aspect: {key: value for key, value in entries.items() if f"{aspect}.{key}" not in dropped}
        for aspect, entries in identity.items()
    }
    return identity if found == identity else found


def select_varying(identity: Identity, others: Sequence[Identity]) -> list[tuple[str, object]]:
    """Return the entries of an identity that are not the same in all the others; None for one that it lacks."""
    entries = dict.fromkeys((aspect, key) for each in (identity, *others) for aspect in each for key in each[aspect])
    return [
        (f"{aspect}.{key}", entry(identity, aspect, key))
        for aspect, key in entries
        if any(entry(other, aspect, key) != entry(identity, aspect, key) for other in others)
    ]


def entry(identity: Identity, aspect: str, key: str) -> object:
    """One entry; None if there is none."""
    return identity.get(aspect, {}).get(key)


def short(value: object) -> str:
    """Return a value in few letters."""
    text = "not recorded" if value is None else str(value)
    return f"{text[:8]}…" if len(text) > 40 else text


def differences(identity: Identity, other: Identity) -> str:
    """List the differences, in words; empty if there are none."""
    return "; ".join(
        f"{key} is {short(value)} here and {short(entry(other, aspect, name))} there"
        for key, value in select_varying(identity, [other])
        for aspect, name in [key.split(".", 1)]
    )
