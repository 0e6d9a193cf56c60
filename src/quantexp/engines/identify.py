"""Which server answers, and which model it has, as far as it says."""

import hashlib
from dataclasses import dataclass
from typing import Any

import openai

from quantexp.config import EngineConfig
from quantexp.errors import UserError
from quantexp.models import ModelFile
from quantexp.servers import NoAnswerError, Server
from quantexp.terminal import one_line

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


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What a server says of itself and its model.

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
    listed = await _models(server)
    names = [each["id"] for each in listed]
    wanted = engine.model if engine.model is not None or len(names) != 1 else names[0]
    if wanted not in names:
        has = ", ".join(one_line(name) for name in names) or "none"
        asked = "lists several models" if engine.model is None else f"does not list engine.model={engine.model}"
        raise UserError(f"{server.address} {asked}; set engine.model to one that it has: {has}.")
    entry = next(each for each in listed if each["id"] == wanted)
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
    return ServerIdentity(kind, one_line(version, 80), str(wanted), root, digest)


async def _models(server: Server) -> list[dict[str, Any]]:
    """The server's list of its models."""
    try:
        said: Any = await server.answer(server.client.get("/models", cast_to=object))
    except NoAnswerError as error:
        raise UserError(
            f"{server.address} does not list its models ({error}); check engine.url, which ends in /v1, and the server."
        ) from error
    data = said.get("data") if isinstance(said, dict) else None
    if not isinstance(data, list) or not all(isinstance(m, dict) and isinstance(m.get("id"), str) for m in data):
        raise UserError(
            f"{server.address} does not list its models as an OpenAI-compatible server does; check engine.url, which "
            "ends in /v1."
        )
    return data


def _check_size(server: Server, entry: dict[str, Any], file: ModelFile) -> None:
    """Refuse a server that has loaded another file than the one whose bits per weight go into the report."""
    about = entry.get("meta")  # llama-server's
    if not isinstance(about, dict) or not file.bytes:
        return
    expected = {"n_params": file.parameters, "size": round(file.bits_per_weight * file.parameters / 8)}
    found = {key: about.get(key) for key in expected}
    if all(isinstance(value, int) for value in found.values()) and found != expected:
        raise UserError(
            f"{server.address} has loaded a model of {found['n_params']:,} weights in {found['size']:,} bytes, and "
            f"{file.path} has {expected['n_params']:,} in {expected['size']:,}: start the server with this file, or "
            "name the one that it has."
        )


async def _beside(server: Server, engine: EngineConfig, place: str) -> dict[str, Any]:
    """What the server says at an address beside /v1; empty if it does not."""
    root = str(engine.url).rstrip("/").removesuffix("/v1")
    try:
        said = await server.client.with_options(max_retries=0).get(root + place, cast_to=object)
    except (openai.OpenAIError, ValueError):
        return {}  # it need not say
    return said if isinstance(said, dict) else {}
