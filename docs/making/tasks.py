"""What is said of tasks: their graders, the kinds of constraints, and the cards of the data that ship with quantexp."""

import re
from importlib.resources import files

from making.keys import escaped
from quantexp.tasks import TASKS
from quantexp.tasks.constraints import FAMILIES


def graders() -> str:
    """Markdown of each task's graders, the default first."""
    lines = ["| task | grader | version | what is right |", "|---|---|---|---|"]
    for name, task in TASKS.items():
        ordered = sorted(task.graders.values(), key=lambda grader: grader.name != task.default_grader)
        for grader in ordered:
            note = " (default)" if grader.name == task.default_grader else ""
            lines.append(f"| `{name}` | `{grader.name}`{note} | {grader.version} | {escaped(grader.description)} |")
    return "\n".join(lines)


def constraints() -> str:
    """Markdown of the kinds of constraints, with what each takes; what may be left out in parentheses."""
    lines = ["| family | kind | a text keeps it with | takes |", "|---|---|---|---|"]
    for family, kinds in FAMILIES.items():
        for kind in kinds:
            takes = [f"`{name}`" if each.is_required else f"(`{name}`)" for name, each in kind.takes.items()]
            lines.append(f"| {family} | `{kind.name}` | {escaped(kind.description)} | {', '.join(takes)} |")
    return "\n".join(lines)


def cards() -> str:
    """Return the data cards of the bundled items and of the pairs that judges are measured by, each a section."""
    bundled = files("quantexp.tasks") / "bundled"
    files_of = [bundled / f"{name}.md" for name, task in TASKS.items() if task.is_bundled]
    pairs = sorted((each for each in (bundled / "calibration").iterdir() if each.name.endswith(".md")), key=str)
    texts = [file.read_text(encoding="utf-8") for file in [*files_of, *pairs]]
    return "\n\n".join(re.sub(r"^(#+) (?:Data card: )?", r"#\1 ", text, flags=re.MULTILINE) for text in texts)
