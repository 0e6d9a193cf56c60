"""Secrets, kept from terminals and files."""

import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

SHOWN = "***"
"""What stands in a secret's place."""

SHORTEST = 6
"""Characters of a secret that is looked for in other texts: shorter ones stand in words."""

_NAME = re.compile(
    r"api_?key|access_?key|private_?key|secret|passw(?:or)?d|passphrase|credentials?|authorization|bearer|cookie|jwt"
    r"|(?:api|auth|access|refresh|session|bearer|hf|hub|id)_?token|^(?:x_)?(?:token|auth)$",
)
"""In a name that has been folded to small letters and underscores."""

_VARIABLE = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)$")
"""Ends of the names of environment variables that hold secrets."""

_VALUE = re.compile(r"(?:sk-|sk_|hf_|ghp_|github_pat_|gsk_|xai-|AIza|eyJ|Bearer |Basic )\S{8,}")
"""How well-known keys begin."""

_USER = re.compile(r"(?<=://)[^/\s?#@]+@")
"""User and password of an address."""

_QUERY = re.compile(
    r"([?&][\w.-]*(?:key|token|secret|password|passwd|signature|sig|credential|auth)=)[^&\s#'\"]+", re.I
)
"""What is secret in the query of an address."""


def is_secret_name(name: str) -> bool:
    """Return whether something of this name is a secret, such as an API key; max_tokens is none."""
    folded = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower()
    return bool(_NAME.search(folded))


def is_variable_name(text: str) -> bool:
    """Return whether a text can name an environment variable, and does not look like a key itself."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) is not None and not is_secret_value(text)


def variable_problem(key: str, name: str | None) -> str | None:
    """Find what makes it unusable as an environment variable that holds a key, in a sentence; None for nothing."""
    if name is None or is_variable_name(name):
        return None
    # Without the value: it may be the key.
    return (
        f"{key} is to be the name of an environment variable that holds the key, not the key itself: set the variable, "
        f"and write {key}=NAME."
    )


def is_secret_value(text: str) -> bool:
    """Return whether a text is a key, or holds one that the environment has."""
    return bool(_VALUE.match(text) or _USER.search(text)) or any(secret in text for secret in _secrets())


def find_secret(tree: object, place: str = "") -> str | None:
    """Find the first secret in a tree of mappings and lists, as in headers.Authorization; None if there is none."""
    if isinstance(tree, str):
        return place if is_secret_value(tree) else None
    pairs: Iterable[tuple[object, object]] = ()
    if isinstance(tree, Mapping):
        pairs = tree.items()
    elif isinstance(tree, list | tuple):
        pairs = enumerate(tree)
    for key, value in pairs:
        at = f"{place}.{key}" if place else str(key)
        if is_secret_name(str(key)) and value is not None and not isinstance(value, bool):
            return at
        if (found := find_secret(value, at)) is not None:
            return found
    return None


def hide_secrets(text: str) -> str:
    """Hide passwords in addresses, and what the environment holds as keys, tokens and passwords."""
    for secret in _secrets():
        text = text.replace(secret, SHOWN)
    text = _USER.sub(f"{SHOWN}@", text) if "@" in text else text
    return _QUERY.sub(rf"\1{SHOWN}", text) if "=" in text else text


def _secrets() -> list[str]:
    """Return the secrets of the environment, the longest first: one may begin with another."""
    found = set()
    for name, value in os.environ.items():
        if _VARIABLE.search(name.upper()):
            found.add(value.strip())
        elif "@" in value:  # an address with user and password, such as a proxy's
            try:
                password = urlsplit(value if "://" in value else f"//{value}").password or ""
            except ValueError:
                continue
            found |= {password, unquote(password)}
    return sorted((each for each in found if _is_distinct(each)), key=len, reverse=True)


def _is_distinct(secret: str) -> bool:
    """Tell a secret from a word: placeholders such as OPENAI_API_KEY=ollama stand in paths and names too."""
    is_word = secret.isalpha() and secret.islower() and len(secret) < 2 * SHORTEST
    return len(secret) >= SHORTEST and not is_word
