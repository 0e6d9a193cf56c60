"""Tasks of lm-evaluation-harness (`task=lm-eval`): its documents, examples, prompts, filters and metrics.

The harness is asked for these only; how its tasks are answered, drawn, compared and reported is quantexp's own. It is
imported once a job has such a task.
"""

from quantexp.config import TaskConfig
from quantexp.tasks.base import Task
from quantexp.util.errors import UserError


def _configure(config: TaskConfig) -> Task:
    if config.name == __name__.rpartition(".")[2]:  # what a task without a name is called
        raise UserError("task=lm-eval needs the name of a task: add task.name=NAME, such as task.name=arc_challenge.")
    from quantexp.tasks.lm_eval.task import make_task  # a heavy import

    return make_task(config)


TASK = Task(
    name="lm-eval",
    asks="question",
    required_fields=("question", "target"),
    target=lambda fields: str(fields["target"]),
    check=lambda _: None,  # the harness has made every document
    graders={},
    default_grader="first",
    is_named_by_user=True,
    configure=_configure,
)
"""Any of them, before it is known which."""
