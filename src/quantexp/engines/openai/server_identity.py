"""Identity of the server that answers, and of its model, as far as it says."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quantexp.config import EngineConfig
from quantexp.models import ModelFile
from quantexp.util.errors import UserError
from quantexp.util.openai_client import NoAnswerError, NonsenseError, RefusedError, Server
from quantexp.util.terminal import list_some, one_line

KINDS = {
    "llamacpp": "llama-server",
    "me": "llama_cpp.server",
    "vllm": "vLLM",
    "sglang": "SGLang",
    "tabbyAPI": "TabbyAPI",
    "library": "Ollama",
}
"""Who the servers say owns their models (`owned_by`)."""

VERSIONS = {
    "llama-server": ("/props", "build_info"),
    "vLLM": ("/version", "version"),
    "SGLang": ("/get_server_info", "version"),
    "Ollama": ("/api/version", "version"),
}
"""Where they say their version, beside /v1, and under which name."""

NO_LIST = frozenset({403, 404, 405, 410, 501})
"""Statuses of servers that do not list their models, or not for everybody."""

MOST_NAMES = 20
"""Models that an error names."""


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """Identity of a server and its model, as it says itself.

    Attributes:
        kind: the program, such as vLLM; where it is not known, who it says owns the model.
        version: of the program; empty where it does not say.
        model: its name of the model.
        root: what it says it has loaded under that name; empty where it does not say.
        template_sha256: of the chat template; empty where it does not show it.
    """

    kind: str
    version: str
    model: str
    root: str
    template_sha256: str

    @property
    def system(self) -> str:
        """Program and version."""
        return f"{self.kind} {self.version}".strip()

    @property
    def fixed(self) -> tuple[str, ...]:
        """All that an answer may depend on."""
        return (self.kind, self.version, self.model, self.root, self.template_sha256)


async def identify_server(server: Server, engine: EngineConfig, file: ModelFile) -> ServerIdentity:
    """Ask the server.

    Raises:
        UserError: nothing is there, or it has not the model, or another one than the file.
    """
    await server.connect()
    entry = _entry(server, await _models(server, engine), engine)
    _check_size(server, entry, file)
    owner = entry.get("owned_by")
    kind = KINDS.get(str(owner), one_line(str(owner or "an unknown server"), 40))
    version, template = "", None
    if kind in VERSIONS:
        place, name = VERSIONS[kind]
        said = await _beside(server, engine, place)
        version, template = str(said.get(name) or ""), said.get("chat_template")
    digest = hashlib.sha256(template.encode()).hexdigest() if isinstance(template, str) and template else ""
    root = one_line(str(entry.get("root") or ""))
    return ServerIdentity(kind, one_line(version, 80), str(entry["id"]), root, digest)


def _entry(server: Server, listed: Sequence[dict[str, Any]] | None, engine: EngineConfig) -> dict[str, Any]:
    """Return the entry of the model among those that the server lists; if it lists none, the configured name.

    Raises:
        UserError: it has not this model, or several.
    """
    if listed is None:
        return {"id": engine.model}
    names = [each["id"] for each in listed]
    wanted = engine.model if engine.model is not None or len(names) != 1 else names[0]
    if wanted not in names:
        has = list_some([one_line(name) for name in names], MOST_NAMES) or "none"
        asked = "lists several models" if engine.model is None else f"does not list engine.model={engine.model}"
        raise UserError(f"{server.address} {asked}; set engine.model to one that it has: {has}.")
    return next(each for each in listed if each["id"] == wanted)


async def _models(server: Server, engine: EngineConfig) -> list[dict[str, Any]] | None:
    """Return the server's list of its models; None if it has none, and the model's name is given.

    Raises:
        UserError: it does not list them, and there is no name.
    """
    try:
        said = await server.fetch("/models")
    except RefusedError as error:
        if error.refusal.status not in NO_LIST:
            raise
        why = f" ({error.refusal.status})"
    except NonsenseError as error:
        why = f" ({error})"
    except NoAnswerError as error:
        raise UserError(
            f"{server.address} does not list its models ({error}); check engine.url, which ends in /v1, and the server."
        ) from error
    else:
        data = said.get("data") if isinstance(said, dict) else said
        if isinstance(data, list) and all(isinstance(m, dict) and isinstance(m.get("id"), str) for m in data):
            return data
        why = " as an OpenAI-compatible server does"
    if engine.model is not None:
        return None
    raise UserError(
        f"{server.address} does not list its models{why}; set engine.model=NAME, and check engine.url, which ends in "
        "/v1."
    )


def _check_size(server: Server, entry: dict[str, Any], file: ModelFile) -> None:
    """Refuse a server that has loaded another file than the one whose bits per weight go into the report."""
    about = entry.get("meta")  # llama-server's
    if not isinstance(about, dict) or not file.bytes:
        return
    expected = {"n_params": file.parameters, "size": round(file.bits_per_weight * file.parameters / 8)}
    found = {key: about.get(key) for key in expected}
    if all(type(value) is int and 0 <= value < 2**63 for value in found.values()) and found != expected:
        raise UserError(
            f"{server.address} has loaded a model of {found['n_params']:,} weights in {found['size']:,} bytes, and "
            f"{file.path} has {expected['n_params']:,} in {expected['size']:,}: start the server with this file, or "
            "name the one that it has."
        )


async def _beside(server: Server, engine: EngineConfig, place: str) -> dict[str, Any]:
    """Fetch an address beside /v1 of the server; empty if there is none."""
    root = str(engine.url).rstrip("/").removesuffix("/v1")
    try:
        said = await server.fetch(root + place, retries=0)
    except (NoAnswerError, UserError):
        return {}  # it need not say
    return said if isinstance(said, dict) else {}
