"""The frame of every command: its help, its version, and its errors as sentences."""

import sys
from argparse import ArgumentError
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from platform import python_version
from typing import TYPE_CHECKING, TypeVar

from quantexp.config.hydra_schemas import register_schemas
from quantexp.config.validation import validated
from quantexp.util.error_reports import past_hydra, report_errors
from quantexp.util.errors import UserError
from quantexp.util.native.file_types import list_quants

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.console import Console

    from quantexp.config.reference import Key

Own = TypeVar("Own")


@dataclass(frozen=True, slots=True)
class Command:
    """A command and its help.

    Attributes:
        name: the module behind `python -m`.
        purpose: one sentence.
        examples: what to type, without `python -m` and the name.
    """

    name: str
    purpose: str
    examples: tuple[str, ...]


_ALL = (
    Command(
        "quantexp",
        "Runs one job or, with -m, a sweep of quants, tasks and seeds, and ends with a verdict on each quant.",
        (
            "-m quant=Q8_0,Q5_K_M,Q4_K_M,Q3_K_M task=gsm8k,triviaqa,extraction",
            "-m model=local model.name=mine 'model.path=mine-${quant.name}.gguf' quant=Q8_0,Q4_K_M task=gsm8k",
            "-m model=folder model.path=my-ggufs task=gsm8k",
            "-m weights=bartowski/Qwen3-8B-GGUF:Q8_0,unsloth/Qwen3-8B-GGUF:UD-Q4_K_XL task=gsm8k",
        ),
    ),
    Command(
        "quantexp.aggregate",
        "Compares runs that are in the store already, and writes the report anew.",
        ("", "sweep=RUN_ID stats.baseline=Q5_K_M stats.margin=0.03"),
    ),
    Command(
        "quantexp.compare",
        "Compares results that another harness has written, item by item, and writes a report.",
        ("Q8_0=results/base Q4_K_M=results/q4", "base.csv q4.csv margin=0.03 metric=exact_match"),
    ),
    Command(
        "quantexp.gate",
        "Holds a sweep to a policy: exit status 0 if it passes, 1 if it fails, 3 if that cannot be told.",
        ("", "policy.margin=0.01 policy.most_truncated=0.05", "sweep=RUN_ID policy.no_worse=[all] policy.blocks=false"),
    ),
    Command(
        "quantexp.pick",
        "Picks the smallest condition of a sweep that is within the margin and fits the memory that there is.",
        ("memory=16GB context=8192", "memory=8GiB context=32768 speed=10", "sweep=RUN_ID margin=0.03"),
    ),
    Command(
        "quantexp.export",
        "Writes a sweep's results as they are published: model card, JSON, CSV, BibTeX, .eval_results.",
        ("", "sweep=RUN_ID url=https://huggingface.co/OWNER/NAME"),
    ),
    Command(
        "quantexp.reproduce",
        "Runs again what a published file declares: exit status 0 if it agrees, 1 if not, 3 if that cannot be told.",
        ("results.json", "results.json model_path=my-ggufs margin=0.01"),
    ),
    Command(
        "quantexp.regrade",
        "Grades the stored outputs of a sweep again, without the model, and compares what came of it.",
        ("grader=gsm8k-strict", "sweep=RUN_ID"),
    ),
    Command(
        "quantexp.plan",
        "Says how many items a comparison needs and what they cost; writes nothing.",
        ("margin=0.01", "sweep=null changed=0.05 items=600"),
    ),
    Command("quantexp.store", "Shows what the completion store holds, and makes it smaller.", ("", "compact=true")),
    Command(
        "quantexp.sync",
        "Sends to the tracking server what was kept here while it did not answer.",
        ("tracking.uri=http://127.0.0.1:5000", "tracking.folder=elsewhere/mlruns"),
    ),
    Command(
        "quantexp.models",
        "Downloads, lists, verifies and inspects the model files that jobs need.",
        ("fetch model=qwen2.5-1.5b-instruct quant=Q8_0,Q4_K_M", "list", "inspect my-Q4_K_M.gguf"),
    ),
    Command(
        "quantexp.doctor",
        "Says what works on this machine, what does not, and what mends it.",
        ("", "--json"),
    ),
    Command("quantexp.build_llama", "Compiles llama.cpp for the processor of this machine, and tries it.", ("",)),
    Command(
        "quantexp.generate_extraction",
        "Has a model write e-mails with gold fields for the task extraction; asks before it spends anything.",
        ("items=50", "base_url=http://127.0.0.1:8000/v1 model.name=NAME api_key_variable=null out=data/mine.jsonl"),
    ),
    Command(
        "quantexp.review_extraction",
        "Shows those e-mails to a person one by one, and keeps which may stay.",
        ("reviewer=NAME", "reviewer=NAME path=data/mine.jsonl first=20"),
    ),
)

COMMANDS: Mapping[str, Command] = {command.name: command for command in _ALL}
"""Every command by its name."""


@contextmanager
def command_line(name: str, register: Callable[[], None] = register_schemas) -> Iterator[None]:
    """Frame a command that Hydra composes: answer --help and --version, turn a user's mistake into its sentence.

    Args:
        name: the module behind `python -m`.
        register: makes the types of the command's configuration known to Hydra.

    Raises:
        SystemExit: nothing was to be run, or what was run failed.
    """
    with report_errors():
        arguments = sys.argv[1:]
        if "--version" in arguments:
            print(versions())  # noqa: T201
            raise SystemExit(0)
        register()
        if {"--help", "-h"}.intersection(arguments):
            print_help(COMMANDS[name])
            raise SystemExit(0)
        _refuse_flags(arguments)
        yield


def hydra_command(
    name: str,
    schema: type[Own],
    read: Callable[["DictConfig"], Own] | None = None,
    register: Callable[[], None] = register_schemas,
    check: Callable[[Sequence[str]], None] | None = None,
    rewrite: Callable[[Sequence[str], type[Own]], Sequence[str]] | None = None,
) -> Callable[[Callable[[Own], None]], Callable[[], None]]:
    """Make the entry point of a command of the function that does its work.

    Args:
        name: the module behind `python -m`; the last part of it names the file in conf/.
        schema: the type of the function's argument.
        read: makes it of what Hydra has composed; by default its values are checked.
        register: makes the types of the command's configuration known to Hydra.
        check: refuses arguments before Hydra sees them.
        rewrite: makes keys of arguments that are none, given the schema.
    """

    def decorate(function: Callable[[Own], None]) -> Callable[[], None]:
        @wraps(function)  # Hydra names the command's log after the function's module
        def run(composed: "DictConfig") -> None:
            with past_hydra():
                function(validated(composed, schema) if read is None else read(composed))  # type: ignore[type-var]

        def main() -> None:
            import hydra

            with command_line(name, register):
                if check is not None:
                    check(sys.argv[1:])
                if rewrite is not None:
                    sys.argv[1:] = rewrite(sys.argv[1:], schema)
                stem = name.removeprefix("quantexp.")
                hydra.main(version_base="1.3", config_path="pkg://quantexp.conf", config_name=stem)(run)()

        return main

    return decorate


def versions() -> str:
    """Name quantexp's version and those of what its results depend on, in one line."""
    named = {name: _version(name) for name in ("quantexp", "llama-cpp-python", "mlflow", "hydra-core")}
    return ", ".join(f"{name} {found}" for name, found in named.items()) + f", Python {python_version()}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _refuse_flags(arguments: Sequence[str]) -> None:
    """Refuse wrong flags in a sentence; Hydra would print a page on its own usage, or a traceback."""
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        given, unknown = parser.parse_known_args(list(arguments))
    except ArgumentError as error:
        raise UserError(
            f"{error.argument_name or 'The command'}: {error.message}; --help lists what there is."
        ) from None
    for argument in unknown:
        if not argument.startswith("-"):
            raise UserError(f"{argument}: keys stand together; put flags such as --cfg before all of them.")
        flags = [flag for action in parser._actions for flag in action.option_strings]
        close = get_close_matches(argument.partition("=")[0], flags, 1)
        meant = f"did you mean {close[0]}?" if close else "keys are set without dashes, as in task.limit=20."
        raise UserError(f"{argument}: there is no such flag; {meant}")
    modes = ("run", "multirun", "cfg", "info", "shell_completion")
    if len(chosen := [mode for mode in modes if getattr(given, mode)]) > 1:
        raise UserError(f"--{chosen[0]} and --{chosen[1]} cannot be had together: leave one of them out.")


def print_help(command: Command) -> None:
    """Print a command's purpose, examples, groups and keys, and the other commands."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    page = StringIO()
    console = Console(file=page, width=Console().width, highlight=False, markup=False)
    sweeps = "[-m] " if command.name == "quantexp" else ""
    console.print(f"usage: python -m {command.name} {sweeps}[GROUP=OPTION ...] [KEY=VALUE ...]\n")
    console.print(f"{command.purpose}\n")
    console.print("examples:")
    for example in command.examples:
        console.print(f"  python -m {command.name} {example}".rstrip(), soft_wrap=True)
    _print_keys(console, command)
    console.print("\nother commands, each with --help:")
    table = Table.grid(padding=(0, 2, 0, 2))
    for other in COMMANDS.values():
        if other is not command:
            table.add_row(Text(f"python -m {other.name}"), Text(other.purpose))
    console.print(table)
    console.print("\n--version prints the versions; --cfg job shows the configuration instead of running it.")
    print("\n".join(line.rstrip() for line in page.getvalue().splitlines()))  # noqa: T201


def _print_keys(console: "Console", command: Command) -> None:
    from rich.text import Text

    from quantexp.config.reference import (
        CONF,
        FILE_TYPES,
        SCHEMAS,
        default_option,
        find_dataclass,
        is_group,
        list_keys,
        summary,
    )

    stem = command.name.removeprefix("quantexp.") if command.name != "quantexp" else "config"
    schema = SCHEMAS[stem]
    console.print("\nkeys:")
    _print_table(console, list_keys(schema, "", [CONF / f"{stem}.yaml"]))
    for field in fields(schema):
        kind = find_dataclass(field.type)
        if kind is None or not is_group(field.name, kind):
            continue
        options = sorted((CONF / field.name).glob("*.yaml"), key=lambda file: file.stem.casefold())
        chosen = default_option(field.name, f"{stem}.yaml")
        listed = _mark_default([option.stem for option in options], chosen)
        if field.name == "quant":
            listed += f"; {FILE_TYPES}: {_mark_default(list_quants(), chosen)}"
        console.print(Text(f"\n{field.name}=OPTION: {summary(kind)} Options: {listed}."))
        _print_table(console, list_keys(kind, field.name, options))
    if command.name == "quantexp":
        console.print(
            Text("\ntask.sampling=OPTION: its keys at once. Options: greedy, model (what its publisher recommends).")
        )
        experiments = ", ".join(sorted(file.stem for file in (CONF / "experiment").glob("*.yaml")))
        console.print(Text(f"\nexperiment=OPTION: a whole sweep under one name. Options: {experiments}."))
        launchers = ", ".join(sorted(file.stem for file in (CONF / "hydra" / "launcher").glob("*.yaml")))
        console.print(Text(f"hydra/launcher=OPTION: where jobs run. Options: basic (default), {launchers}."))


def _mark_default(options: Iterable[str], chosen: str) -> str:
    return ", ".join(f"{option} (default)" if option == chosen else option for option in options)


def _print_table(console: "Console", listed: Sequence["Key"]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 2))
    table.add_column(overflow="fold", max_width=32)
    table.add_column(overflow="fold")
    for key in listed:
        default = f" [{key.default}]" if key.default is not None else ""
        within = f" ({key.within})" if key.within else ""
        table.add_row(Text(f"{key.name}={_takes(key)}"), Text(f"{key.text}{within}{default}"))
    console.print(table)


def _takes(key: "Key") -> str:
    words = {"text": "TEXT", "whole number": "N", "number": "X", "`true` or `false`": "true|false"}
    if key.choices:
        return "|".join(key.choices)
    takes = key.type.removesuffix(" or `null`")
    return words.get(takes, takes.replace("`", ""))
