"""A process that renders chat templates and can do little else, since they come in files from elsewhere.

Reads lines of JSON, {"template": ..., "messages": ..., "tools": ..., "bos": ..., "eos": ..., "arguments": {...}}.
Answers each with one, {"text": ...} or {"refused": ...} with the reason. Without messages the template is only
compiled, and the text has the names of the arguments that it reads. A template runs in Jinja's sandbox, which hides
what is not the template's to see, in bounded memory and time; the process can open no file and no connection, and has
no secret in its environment. It imports nothing of quantexp, so that it starts in a tenth of a second.
"""

import json
import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.ext
import jinja2.filters
import jinja2.meta
import jinja2.nodes
import jinja2.parser
import jinja2.tests
from jinja2.sandbox import ImmutableSandboxedEnvironment

TODAY = date(2024, 7, 26)
"""What chat templates are told when they ask for the date: the day that Llama 3.1's template itself falls back to. With
the real one, the same item would be another prompt tomorrow."""

SECONDS = 5
"""Of computing on one prompt; templates in use take less than a thousandth of it. A busy machine does not count."""

MEMORY = 1 << 30
"""Bytes that the process may have, as it was started with."""

OURS = frozenset({"messages", "bos_token", "eos_token", "add_generation_prompt", "raise_exception", "strftime_now"})
"""What every template is given."""

LONGEST = 4_000_000
"""Characters of a prompt: a million tokens or so, which is the longest context of any model in use."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`, by which templates mark the assistant's turns for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 - as in its base class

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """Return the nodes between the tags."""
        parser.stream.skip(1)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise ValueError(message)


@lru_cache(maxsize=4)
def compile_template(source: str) -> jinja2.Template:
    """Compile the template in the environment that Transformers and llama-cpp-python give it.

    Raises:
        jinja2.TemplateError: it is not Jinja.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    return environment.from_string(source)


def list_arguments(source: str) -> list[str]:
    """List the names that the template reads and that are nobody's but the user's to give.

    Raises:
        jinja2.TemplateError: it is not Jinja.
    """
    template = compile_template(source)
    read = jinja2.meta.find_undeclared_variables(template.environment.parse(source))
    return sorted(read - OURS - template.environment.globals.keys())


def render(
    source: str,
    messages: Sequence[object],
    bos: str,
    eos: str,
    arguments: Mapping[str, Any],
    tools: Sequence[object] | None = None,
) -> str:
    """Return the prompt's text.

    Raises:
        jinja2.TemplateError, ArithmeticError, LookupError, MemoryError, RecursionError, TypeError, ValueError: the
            template cannot do this chat, or does too much.
    """
    given = {
        "functions": None,
        "function_call": None,
        "tools": None,
        "tool_choice": None,
        **arguments,
        **({"tools": tools} if tools else {}),
        "messages": messages,
        "bos_token": bos,
        "eos_token": eos,
        "add_generation_prompt": True,
        "raise_exception": _raise,
        "strftime_now": TODAY.strftime,
    }
    text = compile_template(source).render(given)
    if len(text) > LONGEST:
        raise ValueError(f"it makes {len(text):,} characters of it, and {LONGEST:,} are the most")
    return text


def _answer(asked: dict[str, Any]) -> dict[str, str]:
    try:
        if asked.get("messages") is None:
            return {"text": " ".join(list_arguments(asked["template"]))}
        template, messages, bos, eos = (asked[name] for name in ("template", "messages", "bos", "eos"))
        return {"text": render(template, messages, bos, eos, asked["arguments"], asked.get("tools"))}
    except MemoryError:
        return {"refused": f"it needs more than {MEMORY >> 20} MB of memory"}
    except RecursionError:
        return {"refused": "it calls itself without an end, or is nested too deeply"}
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in a template is the template's; its words go on
        return {"refused": str(error) or type(error).__name__}


def _have_imported() -> None:
    """Let Python and Jinja import now what they import only when a template needs it.

    That is, for an escape, an error, or any of Jinja's filters and tests.
    """
    once = ["'\\n\\N{SPACE}'", "lipsum()", "nothing.at.all", "'a'.encode('utf-16').decode('utf-16')"]
    filters = [f"'a b' | {name}" for name in [*jinja2.filters.FILTERS, "wordwrap(1)"]]
    tests = [f"'a' is {name}" for name in jinja2.tests.TESTS]
    for expression in [*once, *filters, *tests]:
        _answer({"template": f"{{{{ {expression} }}}}", "messages": [], "bos": "", "eos": "", "arguments": {}})
    compile_template.cache_clear()


def main() -> None:
    """Answer until there is nothing more to read."""
    _have_imported()
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    for line in sys.stdin:
        asked = json.loads(line)
        # The system ends a process at its limit, also where the parent has gone and nobody waits for an answer.
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + asked["seconds"], hard))
        sys.stdout.write(json.dumps(_answer(asked)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
