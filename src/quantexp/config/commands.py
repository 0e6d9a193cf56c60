"""The types of the configurations of all commands but the sweep's, and their defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from quantexp.config.choices import Pool
from quantexp.config.grading import EmbedderConfig, JudgeConfig
from quantexp.config.ranges import Example
from quantexp.config.schema import Margin, Positive, StatsConfig, StoreConfig, TrackingConfig, Weight


@dataclass
class AggregateConfig:
    """One aggregation of runs that are already in the store."""

    stats: StatsConfig = field(default_factory=StatsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    sweep: str = "latest"
    """Run id of a sweep, or "latest"."""
    runs: list[str] = field(default_factory=list)
    """Run ids of single jobs instead of a sweep's."""


@dataclass
class PolicyConfig:
    """Policy of a release gate."""

    margin: Margin = 0.02
    """The drop of the mean score that would not matter, on every task; 0.02 is two points."""
    margins: dict[str, Margin] = field(default_factory=dict)
    """Other margins for single tasks, as {gsm8k: 0.03}."""
    pool: Pool = Pool.none
    """Rule on all tasks of a model together, which comes first: how they count; none: no such rule."""
    pool_weights: dict[str, Weight] = field(default_factory=dict)
    """The tasks' weights with pool=weights, as {gsm8k: 2, triviaqa: 1}."""
    pool_margin: Margin | None = None
    """The drop of the pool that would not matter; null: `margin`."""
    each_task: bool = True
    """Whether each task must be within its margin too; false: the pool alone must."""
    no_worse: list[str] = field(default_factory=list)
    """Tasks on which a loss that is shown fails, however small; [all]: every task."""
    most_truncated: Annotated[float, Ge(0), Le(1), Example("0.05 for 5% of the answers")] | None = None
    """The largest share of a condition's answers that are cut off; null: any."""
    conditions: list[str] = field(default_factory=list)
    """Conditions that are judged; []: all but the baseline and its placebos."""
    blocks: bool = True
    """What cannot be told blocks: exit status 3. Otherwise it is reported, and the status is 0."""


@dataclass
class GateConfig:
    """One gate on runs that are already in the store."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    stats: StatsConfig = field(default_factory=StatsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    sweep: str = "latest"
    """Run id of a sweep, or "latest"."""
    runs: list[str] = field(default_factory=list)
    """Run ids of single jobs instead of a sweep's."""
    results: list[str] = field(default_factory=list)
    """Files or folders of another harness's results instead of a sweep's, the baseline first unless stats.baseline
    names one, as quantexp.compare reads them; on the command line they stand without the key."""
    metric: str | None = None
    """Of such results the score, such as acc_norm; null: each task's first."""
    filter: str | None = None
    """Of such results the filter of lm-evaluation-harness; null: each task's first."""
    columns: dict[str, str] = field(default_factory=dict)
    """Columns of a table of such results by what they are, as {item: question_id}; what is not given is guessed."""
    out: str = "gate"
    """The folder that gate.md, gate.xml and gate.json are written into."""


@dataclass
class PickConfig(AggregateConfig):
    """One pick among the conditions of a sweep."""

    memory: str | None = None
    """The memory that there is, as 16GB (10^9 bytes each) or 16GiB (2^30); null: any."""
    context: Positive = 8192
    """Tokens of context of one conversation."""
    speed: Annotated[float, Gt(0), Example("10")] | None = None
    """The fewest tokens a second that are written, on the machine of the sweep; null: any."""
    margin: Margin = 0.02
    """The drop of the mean score that would not matter; 0.02 is two points."""
    out: str = "pick"
    """The folder that pick.md, its chart and the report are written into."""


@dataclass
class ExportConfig(AggregateConfig):
    """One publication of runs that are already in the store."""

    out: str = "export"
    """The folder that the files are written into."""
    url: str | None = None
    """Where the results will be found; it goes into the model card, the citation and `.eval_results`."""
    author: str | None = None
    """Whose results they are, for the citation: names joined by `and`."""
    benchmarks: dict[str, str] = field(default_factory=dict)
    """The Hub's benchmark of tasks whose items are one's, as {mmlu_pro: TIGER-Lab/MMLU-Pro:mmlu_pro}."""


@dataclass
class ReproduceConfig:
    """One reproduction of a published file."""

    file: str = ""
    """The results.json of quantexp.export; on the command line it stands without the key."""
    model_path: str | None = None
    """The model's GGUF, or a folder with all of them, if the published file names files of a machine."""
    places: dict[str, Any] = field(default_factory=dict)
    """Further keys of the jobs that say where something is here, as {data.path: quiz.csv} or {engine.url: ADDRESS}."""
    threads: Positive | None = None
    """Threads of llama.cpp; null: the physical cores this process may use. No answer depends on them."""
    margin: Margin | None = None
    """The difference between the published scores and those here that would not matter; null: the published margin."""
    out: str = "reproduction"
    """The folder of the runs and the answers; the same command goes on from what is there."""


@dataclass
class RegradeConfig(AggregateConfig):
    """One grading of runs that are already in the store."""

    judge: JudgeConfig = field(default_factory=JudgeConfig)
    embedder: EmbedderConfig = field(default_factory=EmbedderConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    grader: str | None = None
    """A grader's name; null: the one that each run was graded by, in its current version."""
    reader: str | None = None
    """How outputs are read, as `model.reasoning` has it; null: as they were read, in its current version."""
    unsafe_code: bool = False
    """Run code that a model has written also if this machine cannot shut it in."""


@dataclass
class SyncConfig:
    """Sending what was kept for a server."""

    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass
class MaintenanceConfig:
    """Maintenance of the completion store."""

    store: StoreConfig = field(default_factory=StoreConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    compact: bool = False
    """Rewrite it without duplicates and damaged records."""


@dataclass
class PlanConfig:
    """Size of an experiment."""

    stats: StatsConfig = field(default_factory=StatsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    margin: Margin = 0.02
    """The largest drop that would not matter, as a share: 0.02 is 2 points."""
    power: float = 0.8
    """Probability of the wanted answer."""
    alpha: Annotated[float, Gt(0), Le(0.5), Example("0.05")] = 0.05
    """Level of the tests."""
    family: Positive = 1
    """Number of comparisons declared together; a drop is found at alpha / family, Holm's first step."""
    items: Positive | None = None
    """A planned number of items; null: only the numbers that are needed."""
    changed: Annotated[float, Gt(0), Le(1), Example("0.05 for 5% of the items")] | None = None
    """Share of items whose score changes between baseline and quant; null: estimated from the sweep."""
    sweep: str | None = "latest"
    """Run id of the sweep that says what changes and what it costs, or "latest"; null: none."""


@dataclass
class CompareConfig:
    """One comparison of results that another harness has written."""

    stats: StatsConfig = field(default_factory=StatsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    results: list[str] = field(default_factory=list)
    """Files or folders of results, the baseline first, each as PATH or NAME=PATH; on the command line they stand
    without the key."""
    margin: Margin = 0.02
    """The drop of the mean score that would not matter; 0.02 is two points. To be decided before the results are
    seen."""
    metric: str | None = None
    """The score, such as acc_norm, the column of a table, or a scorer of Inspect; null: each task's first."""
    filter: str | None = None
    """lm-evaluation-harness's filter between output and score, such as flexible-extract; null: each task's first."""
    columns: dict[str, str] = field(default_factory=dict)
    """Columns of a table by what they are, as {item: question_id, output: answer}; what is not given is guessed."""
    out: str = "compare"
    """The folder that the report is written into; relative to the folder the command runs in."""
    mlflow: bool = False
    """Record the comparison as a run in the tracking store too."""


CommandConfig = (
    AggregateConfig
    | CompareConfig
    | GateConfig
    | MaintenanceConfig
    | PickConfig
    | PlanConfig
    | ReproduceConfig
    | SyncConfig
)
"""Any of them."""

SCHEMAS: Mapping[str, type[CommandConfig]] = {
    "aggregate": AggregateConfig,
    "compare": CompareConfig,
    "gate": GateConfig,
    "pick": PickConfig,
    "export": ExportConfig,
    "reproduce": ReproduceConfig,
    "regrade": RegradeConfig,
    "plan": PlanConfig,
    "store": MaintenanceConfig,
    "sync": SyncConfig,
}
"""The configuration of each command by its file in conf/."""
