"""Addresses of servers, as they are written in the configuration; nobody is asked about them."""

import re
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit, urlunsplit


def usable_address(address: str, schemes: Sequence[str] = ("http", "https")) -> bool:
    """Return whether an address names a host, and a port from 0 to 65535 if any."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
        if ":" in host or re.fullmatch(r"[0-9.]+", host):
            ip_address(host)
    except ValueError:
        return False
    named = not any(character.isspace() for character in host) and not {"", "."} & set(host.split("."))
    return parts.scheme in schemes and address.isprintable() and named


def address_problem(key: str, address: str, example: str = "http://127.0.0.1:8000/v1") -> str | None:
    """Find what makes it unusable as the value of a key, in a sentence; None for nothing."""
    if not address.startswith(("http://", "https://")):
        return f"{key}={address} must begin with http:// or https://, as in {example}."
    if not usable_address(address):
        return f"{key}={address} is not an address with a host and a possible port; write it as in {example}."
    return None


def strip_secrets(address: str) -> str:
    """Return the address without what may be secret in it: user, password and query."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
