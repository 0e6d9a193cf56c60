"""Conditions of recorded runs: what each is called, and its identity without what the conditions differ in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from quantexp.config import StatsConfig
from quantexp.config.condition import TEMPLATE, WEIGHTS, Case, Conditions, Levels, write_argument
from quantexp.config.identity import Identity, share_identity
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.registration import Registration
from quantexp.tracking.tags import FACTOR


@dataclass(frozen=True, slots=True)
class LabelledRuns:
    """Runs by the names that tables know their conditions by.

    Attributes:
        records: the runs; the tag `quant` of each holds its condition's name, and its identity only what pairs share.
        baseline: name of the baseline.
        levels: of the weights and the other factors that vary, by run id.
        declared: names that they were declared under, by run id, which another baseline changes.
        placebos: ids of the runs that compute what the baseline does by another arithmetic.
    """

    records: tuple[JobRecord, ...]
    baseline: str
    levels: Mapping[str, Levels]
    declared: Mapping[str, str]
    placebos: frozenset[str]


def label_runs(
    records: Sequence[JobRecord], stats: StatsConfig, registration: Registration | None = None
) -> LabelledRuns:
    """Name the condition of each run.

    Args:
        records: all runs that are compared.
        stats: which factors count, and which condition is the baseline.
        registration: what the sweep has declared, which says in what order its conditions were asked for.
    """
    cases = {record.run_id: _read_case(record) for record in sorted(records, key=lambda record: record.started)}
    declared = {} if registration is None else registration.references
    conditions = Conditions([*cases.values()], stats, declared)
    labelled = tuple(
        replace(
            record,
            tags={**record.tags, "quant": conditions.label(cases[record.run_id])},
            identity=share_identity(record.identity, conditions.references[cases[record.run_id].place]),
        )
        for record in records
    )
    levels = {run_id: {WEIGHTS: case.weights, **conditions.select_varying(case)} for run_id, case in cases.items()}
    placebos = frozenset(run_id for run_id, case in cases.items() if conditions.is_placebo(case))
    as_declared = conditions
    if registration is not None and registration.baseline not in (None, stats.baseline):
        as_declared = Conditions([*cases.values()], replace(stats, baseline=registration.baseline), declared)
    names = {run_id: as_declared.label(case) for run_id, case in cases.items()}
    return LabelledRuns(labelled, conditions.baseline, levels, names, placebos)


def _read_case(record: JobRecord) -> Case:
    tags = record.tags
    levels = {key.removeprefix(FACTOR): level for key, level in tags.items() if key.startswith(FACTOR)}
    return Case(
        tags["model"], tags["task"], tags["quant"], levels or _infer(record.identity),
        record.params.get("model.context", ""),
    )  # fmt: skip


def _infer(identity: Identity) -> Levels:
    """Return the levels of a run that was recorded before there were factors."""
    settings, prompt = identity.get("settings", {}), identity.get("prompt", {})
    levels = {name: str(settings[name]) for name in ("context", "gpu_layers") if name in settings}
    if "lanes" in settings:
        levels["lanes"] = "1" if settings["lanes"] == "one" else str(settings["lanes"])
    return levels | {key: write_argument(value) for key, value in prompt.items() if key.startswith(TEMPLATE)}
