"""`python -m quantexp.gate`: hold a sweep to a policy; the exit status says what a release pipeline needs to know."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from quantexp.comparison.results.words import rewrite_words
from quantexp.config import GateConfig, StatsConfig
from quantexp.config.command_line import hydra_command

if TYPE_CHECKING:
    from quantexp.comparison.summary import Summary

FAILED, INCONCLUSIVE = 1, 3
"""Exit statuses; 2 is a user's mistake, 0 a release."""


def _compare(config: GateConfig) -> "Summary":
    """Compare the jobs of a sweep, single runs, or results of another harness."""
    from quantexp.comparison.analysis import compare_sweep
    from quantexp.comparison.results.analysis import compare_named

    if config.results:
        return compare_named(config, "quantexp.gate").summary
    stats = config.stats if config.stats.baseline else replace(config.stats, baseline=StatsConfig.baseline)
    _, _, compared = compare_sweep(config.tracking, config.sweep, config.runs, stats, "judge")
    return compared.summary


@hydra_command("quantexp.gate", GateConfig, rewrite=rewrite_words)
def main(config: GateConfig) -> None:
    """Entry point."""
    from importlib.metadata import version

    from quantexp.comparison.policy import Status, decide_gate, judge
    from quantexp.report.gate_files import describe_ruling, write_gate

    summary = _compare(config)
    rulings = judge(summary, config.policy)
    with_model = len(summary.models()) > 1
    for each in rulings:
        print(describe_ruling(each, with_model=with_model))  # noqa: T201
    files = write_gate(Path(config.out).expanduser(), summary, config.policy, rulings, version("quantexp"))
    status = decide_gate(rulings)
    blocks = "blocks" if config.policy.blocks else "does not block"
    outcome = {
        Status.passed: "passed",
        Status.failed: "failed",
        Status.inconclusive: f"cannot tell, which {blocks} (policy.blocks)",
    }[status]
    print(f"gate {outcome}; the baseline is {summary.baseline}: {', '.join(map(str, files))}")  # noqa: T201
    if status is Status.failed:
        raise SystemExit(FAILED)
    if status is Status.inconclusive and config.policy.blocks:
        raise SystemExit(INCONCLUSIVE)


if __name__ == "__main__":
    main()
