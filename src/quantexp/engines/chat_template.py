"""Chat templates, rendered in a process of their own: they come with a model's file, and so from anyone."""

import json
import logging
import signal
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from quantexp.engines.base import Message, Tool
from quantexp.engines.chat_template_process import MEMORY, SECONDS
from quantexp.util.errors import UserError
from quantexp.util.sandbox import AnsweringProgram, ProgramEndError
from quantexp.util.terminal import one_line

log = logging.getLogger(__name__)

_renderer = AnsweringProgram(Path(__file__).with_name("chat_template_process.py"), MEMORY)


class ChatTemplate:
    """A template for the chats with one model.

    Args:
        source: Jinja.
        bos: how the token that begins a text is written; empty if the vocabulary has none.
        eos: likewise of the token that ends one.
        arguments: what else it is given, as `model.template` has it.

    Attributes:
        arguments: names of all that it reads and a user may give.

    Raises:
        UserError: it cannot be read, or never reads one of the arguments.
    """

    def __init__(self, source: str, bos: str, eos: str, arguments: Mapping[str, Any] = MappingProxyType({})) -> None:
        self._asked = {"template": source, "bos": bos, "eos": eos, "arguments": dict(arguments)}
        answer = self._ask(None)
        if (reason := answer.get("refused")) is not None:
            raise UserError(f"The model's chat template is not valid Jinja ({_shown(reason)}); {_CURE}.")
        self.arguments = tuple(answer["text"].split())
        if unread := sorted(map(str, arguments.keys() - set(self.arguments))):
            known = f"it reads {', '.join(self.arguments)}" if self.arguments else "it reads none"
            raise UserError(
                f"model.template has {', '.join(unread)}, which the model's chat template never reads; {known}."
            )

    def render(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        """Return the text of a chat, with the functions that the model may call.

        Raises:
            UserError: the template refuses it, or takes too long, too much memory or too many words over it.
        """
        answer = self._ask([dict(message) for message in messages], tools)
        if (reason := answer.get("refused")) is not None:
            raise UserError(f"The model's chat template refuses the prompt ({_shown(reason)}); {_CURE}.")
        return answer["text"]

    def find_lost(self, roles: Sequence[str]) -> list[str]:
        """Return the roles whose words do not come into the text, in a chat of turns by these roles.

        Raises:
            UserError: as `render`.
        """
        words = [f"{_PROBE}{number}x" for number in range(len(roles))]  # the x: 1 must not be found in 10
        turns = list(zip(roles, words, strict=True))
        text = self.render([{"role": role, "content": word} for role, word in turns]).lower()
        return list(dict.fromkeys(role for role, word in turns if word not in text))

    @cached_property
    def takes_tools(self) -> bool:
        """True if it tells a model of functions: if the name of one comes into the text."""
        answer = self._ask([{"role": "user", "content": _PROBE}], [_TOOL])
        return _TOOL["function"]["name"] in answer["text"] if "refused" not in answer else False

    def _ask(self, messages: Sequence[object] | None, tools: Sequence[Tool] = ()) -> Mapping[str, str]:
        """Return the process's answer; `refused` too if it ended without one."""
        asked = {**self._asked, "messages": messages, "tools": [dict(tool) for tool in tools], "seconds": SECONDS}
        try:
            answer: Mapping[str, str] = json.loads(_renderer.ask(json.dumps(asked)))
        except ProgramEndError as end:
            slow = end.status == -signal.SIGXCPU
            reason = f"it had not ended after {SECONDS} seconds of computing" if slow else "its process broke down"
            return {"refused": reason}
        return answer


def read_template(given: str) -> str:
    """Return the Jinja source in the user's file, which may be a model's tokenizer_config.json too.

    Raises:
        UserError: there is none.
    """
    path = Path(given).expanduser()
    if not path.is_file():
        raise UserError(f"model.chat_template={given} is not a file.")
    try:
        source = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"model.chat_template={given} is not UTF-8 text ({error.reason}); "
            "give a file with the Jinja source of a chat template."
        ) from error
    if not source.strip():
        raise UserError(f"model.chat_template={given} is empty; give a file with the Jinja source of a chat template.")
    try:
        content = json.loads(source)
    except (ValueError, RecursionError):
        return source
    return _template_in(content, given) if isinstance(content, dict) else source


def _template_in(content: Mapping[str, object], given: str) -> str:
    """Return the template in what a tokenizer_config.json or chat_template.json holds.

    Raises:
        UserError: there is none, or several and none of them is the default.
    """
    found = content.get("chat_template")
    if isinstance(found, list):
        named = {each.get("name"): each.get("template") for each in found if isinstance(each, dict)}
        found = named.get("default")
    if not isinstance(found, str) or not found.strip():
        raise UserError(
            f"model.chat_template={given} is JSON without a chat template (chat_template, or the one of several that "
            "is called default); give a file with the Jinja source of a chat template."
        )
    log.info("taking the chat template out of %s", given)
    return found


_PROBE = "quantexp"
"""The beginning of words that every template passes on, if in capitals: no mark-up, no white space."""

_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": f"{_PROBE}_probe",
        "description": _PROBE,
        "parameters": {
            "type": "object",
            "properties": {"x": {"type": "string", "description": _PROBE}},
            "required": [],
        },
    },
}
"""A function by whose name it is seen if a template tells of functions."""

_CURE = "give another with model.chat_template=FILE"


def _shown(reason: str) -> str:
    return one_line(reason).rstrip(".")
