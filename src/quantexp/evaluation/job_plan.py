"""A job, settled before any model is loaded."""

from dataclasses import dataclass

from quantexp.config import Config, ModelConfig
from quantexp.evaluation.early_stopping import StoppingRule
from quantexp.evaluation.finished_jobs import name_job
from quantexp.tasks import Grader, Task
from quantexp.tasks.items import Dataset, Item
from quantexp.tasks.reasoning import apply_task_budget
from quantexp.tracking.reader import JobRecord


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A job, settled before any model is loaded.

    Attributes:
        config: what was asked for.
        task: what is asked.
        grader: who grades.
        data: where the items come from.
        items: those that are asked, in this order; of plain text its documents, which are cut into windows later.
        pair: what it has in common with the baseline's job (`pair_fingerprint`).
        fingerprint: what makes it this job (`job_fingerprint`).
        rule: when it may end early; None if it answers all items.
        baseline: the baseline's finished job, for divergence; None if this is it, or none is measured.
    """

    config: Config
    task: Task
    grader: Grader
    data: Dataset
    items: tuple[Item, ...]
    pair: str
    fingerprint: str
    rule: StoppingRule | None
    baseline: JobRecord | None

    @property
    def name(self) -> str:
        """The job's name on the terminal."""
        return name_job(self.config)

    @property
    def model(self) -> ModelConfig:
        """The model, as it is used for the job's task."""
        return apply_task_budget(self.config)
