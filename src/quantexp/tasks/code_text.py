"""Python code in the text of an answer.

Looked for by the shape of lines, never parsed: a text from anyone is parsed in the sandbox only.
"""

import re
from typing import NamedTuple

_FENCE = re.compile(r"^[ \t]*```[ \t]*(?:[\w+-]+[ \t]*)?\n(.*?)(?P<end>^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_BEGINS = re.compile(r"(?:def|class|async def|import|from)\s+\w|@\w|#")
"""The first line of a program within prose."""

_GOES_ON = re.compile(
    r"(?:def|class|async def|import|from|if|for|while|with)\b.*[:\w)]$|(?:else|try|finally|except\b.*):|@\w|#|[)\]}]"
    r"|[A-Za-z_][\w.\[\]'\"]*\s*(?::[^=]+)?[-+*/]?=[^=]"
)
"""Another line of it that is not indented."""


class CodeText(NamedTuple):
    """Code that was found in an answer.

    Attributes:
        code: the code, with what stands before the function in the prompt.
        rule: by which it was found.
        is_whole: whether it ends within the answer.
    """

    code: str
    rule: str
    is_whole: bool


def find_code(answer: str, prompt: str, function: str) -> CodeText | None:
    """Find the code that defines a function; None in an answer of white space.

    In this order: the first fenced block that defines it, or the first block, as the whole function or as its body; the
    definition within text that has no fence; or the text itself, as the body that goes on from the prompt.

    Args:
        answer: the text.
        prompt: the code that was to be completed: what the function needs, its head and its docstring.
        function: its name.
    """
    if not answer.strip():
        return None
    defines = re.compile(rf"^[ \t]*(?:async[ \t]+)?def[ \t]+{re.escape(function)}\b", re.MULTILINE)
    head = defines.search(prompt)
    before = prompt[: head.start()] if head else ""
    blocks = [*_FENCE.finditer(answer)]
    if blocks:
        block = next((each for each in blocks if defines.search(each[1])), blocks[0])
        if defines.search(block[1]):
            return CodeText(before + _dedent(block[1]), "fence", bool(block["end"]))
        return CodeText(_continue(prompt, block[1]), "fence, body", bool(block["end"]))
    if defines.search(answer):
        lines, is_whole = _take_program(answer.splitlines())
        return CodeText(before + _dedent("\n".join(lines) + "\n"), "function", is_whole)
    body, is_whole = _take_body(answer.splitlines())
    return CodeText(_continue(prompt, "\n".join(body) + "\n"), "body", is_whole)


def _continue(prompt: str, body: str) -> str:
    """Put a body after the prompt; one without indentation gets it."""
    lines = body.splitlines()
    first = next((line for line in lines if line.strip()), "")
    if first[:1] not in (" ", "\t"):
        lines = [f"    {line}" if line.strip() else line for line in lines]
    return prompt.rstrip() + "\n" + "\n".join(lines) + "\n"


def _dedent(code: str) -> str:
    """Take away the indentation of the first line, as of a block within a list."""
    first = next((line for line in code.splitlines() if line.strip()), "")
    margin = first[: len(first) - len(first.lstrip(" \t"))]
    return "".join(line.removeprefix(margin) for line in code.splitlines(keepends=True)) if margin else code


def _take_program(lines: list[str]) -> tuple[list[str], bool]:
    """Take the lines of a program from the prose around it; whether prose follows."""
    start = next((place for place, line in enumerate(lines) if _BEGINS.match(line.lstrip())), 0)
    margin = lines[start][: len(lines[start]) - len(lines[start].lstrip(" \t"))]
    taken = [lines[start]]
    for line in lines[start + 1 :]:
        own = line.removeprefix(margin)
        if own.strip() and own[:1] not in (" ", "\t") and not _GOES_ON.match(own.rstrip()):
            return taken, True
        taken.append(line)
    return taken, False


def _take_body(lines: list[str]) -> tuple[list[str], bool]:
    """Take the lines up to the first that is not indented, once one was; whether there is such a line."""
    taken: list[str] = []
    is_indented = False
    for line in lines:
        if line.strip() and line[:1] not in (" ", "\t"):
            if is_indented:
                return taken, True
        elif line.strip() and not taken:
            is_indented = True
        if line.strip() or taken:
            taken.append(line)
    return taken, False
