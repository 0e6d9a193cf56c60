"""`python -m quantexp.doctor`: what works on this machine, what does not, and what mends it."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from quantexp.config.command_line import COMMANDS, versions
from quantexp.evaluation.diagnosis.finding import Finding
from quantexp.evaluation.diagnosis.inference import inference_findings
from quantexp.evaluation.diagnosis.surroundings import (
    browser_findings,
    compiler_findings,
    disk_findings,
    hub_findings,
    store_findings,
    thread_findings,
    version_findings,
)
from quantexp.util.error_reports import report_errors
from quantexp.util.terminal import printable

EXIT_BROKEN = 1


def findings(folder: Path, *, quick: bool = False) -> Iterator[Finding]:
    """Everything, one after the other.

    Args:
        folder: the tracking folder.
        quick: without what takes long, which is how fast llama.cpp is.
    """
    yield from version_findings()
    yield from inference_findings(quick=quick)
    yield from thread_findings()
    yield from compiler_findings()
    yield from store_findings(folder)
    yield from disk_findings(folder)
    yield from hub_findings()
    yield from browser_findings()


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point.

    Raises:
        SystemExit: status 1 if anything is broken.
    """
    parser = argparse.ArgumentParser(
        prog="python -m quantexp.doctor",
        description=f"{COMMANDS['quantexp.doctor'].purpose} Bug reports paste it.",
        epilog="The other commands: python -m quantexp --help",
    )
    parser.add_argument("--version", action="version", version=versions())
    parser.add_argument("--json", action="store_true", help="print a list of findings as JSON")
    parser.add_argument("--quick", action="store_true", help="do not measure how fast llama.cpp is")
    parser.add_argument("--folder", default="mlruns", help="tracking folder to look at (default: %(default)s)")
    given = parser.parse_args(arguments)
    with report_errors():
        found = []
        for finding in findings(Path(given.folder), quick=given.quick):
            found.append(finding)
            if not given.json:
                sys.stdout.write(f"{_line(finding)}\n")
                sys.stdout.flush()
        if given.json:
            sys.stdout.write(json.dumps([asdict(finding) for finding in found], indent=1) + "\n")
    if any(finding.status == "broken" for finding in found):
        raise SystemExit(EXIT_BROKEN)


def _line(finding: Finding) -> str:
    mend = f"; to mend it: {finding.mend}" if finding.mend else ""
    return printable(f"{finding.status:8} {finding.check:10} {finding.text}{mend}")


if __name__ == "__main__":
    main()
