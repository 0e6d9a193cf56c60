"""A task of lm-evaluation-harness as a task of quantexp."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from quantexp.config import TaskConfig
from quantexp.tasks.items import Dataset, Item
from quantexp.tasks.lm_eval import TASK
from quantexp.tasks.lm_eval.documents import SUBTASK, load_documents
from quantexp.tasks.lm_eval.harness import list_shots, load_harness
from quantexp.tasks.lm_eval.metrics import FIRST, make_graders
from quantexp.tasks.lm_eval.prompts import SCORES, WRITES, ask_documents
from quantexp.tasks.own_words import CountTokens, OwnWordsTask
from quantexp.tasks.requests import Choose, Generate, ItemRequests
from quantexp.util.errors import UserError


def make_task(config: TaskConfig) -> OwnWordsTask:
    """Return the task that is called so.

    Raises:
        UserError: there is none, its data cannot be had, or it cannot be measured here.
    """
    of_task = config.name, config.include_path, config.shots, config.shots_seed
    key = *of_task, config.metric, config.chat, config.unsafe_code
    task, arguments = _load_task(*key)
    settings = dict(task.settings)
    if task.request is Generate:
        settings |= _read_generation(config, arguments)
    return replace(task, settings=settings)


@cache
def _load_task(
    name: str, include_path: str | None, shots: int | None, seed: int, metric: str, chat: bool, unsafe_code: bool
) -> tuple[OwnWordsTask, Mapping[str, Any]]:
    """Load a task once in a process; what cannot change while that runs.

    Returns:
        The task, and the arguments of generation by which its answers are written.
    """
    harness = load_harness(name, include_path, shots, seed, unsafe_code)
    data = load_documents(harness)
    probes = _pick_probes(data)
    probed = ask_documents(harness, probes, chat)
    arguments = [arguments for _, arguments in probed.values()]
    kinds = {bool(request.continuations) for request, _ in probed.values()}
    if len(kinds) > 1 or any(other != arguments[0] for other in arguments):
        raise UserError(
            f"The tasks of task.name={name} are answered in different ways, so they have no score in common: name them "
            f"one by one, as in task.name={','.join([*harness.tasks][:8])}."
        )
    if len(list_shots([*harness.tasks.values()])) > 1:
        raise UserError(
            f"The tasks of task.name={name} have different numbers of examples: set one for all with task.shots."
        )
    scored = True in kinds
    sizes = Counter(item.fields[SUBTASK] for item in data.items)
    graders, default = make_graders(harness, SCORES if scored else WRITES, metric, sizes)

    def ask(items: Sequence[Item], system: str, _: CountTokens) -> Mapping[str, ItemRequests]:
        asked = ask_documents(harness, items, chat, system)
        if odd := [item for item, (_, given) in asked.items() if given != arguments[0]]:
            raise UserError(
                f"{name} has arguments of generation of its own for the document {odd[0]}, which is not measured here."
            )
        return {item: request for item, (request, _) in asked.items()}

    made = OwnWordsTask(
        name=name,
        asks=TASK.asks,
        required_fields=TASK.required_fields,
        target=TASK.target,
        check=TASK.check,
        graders={**graders, FIRST: graders[default]},
        default_grader=default,
        request=Choose if scored else Generate,
        is_named_by_user=True,
        load=lambda: data,
        ask=ask,
        settings={"shots": list_shots([*harness.tasks.values()])[0]},
    )
    return made, arguments[0]


def _pick_probes(data: Dataset) -> list[Item]:
    """Return the first item of each task."""
    found: dict[str, Item] = {}
    for item in data.items:
        found.setdefault(item.fields[SUBTASK], item)
    return list(found.values())


def _read_generation(config: TaskConfig, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return how answers are written, by the task's own arguments.

    Raises:
        UserError: they are drawn, which has to be asked for.
    """
    sampling = config.sampling
    temperature = float(arguments.get("temperature") or 0)
    if arguments.get("do_sample") and temperature > 0 and sampling.temperature == 0:
        top_p = f" task.sampling.top_p={arguments['top_p']}" if "top_p" in arguments else ""
        raise UserError(
            f"task.name={config.name} draws its answers: add task.sampling.temperature={temperature:g}{top_p}, or "
            "another temperature."
        )
    until = arguments.get("until") or []
    stop = [str(each) for each in ([until] if isinstance(until, str) else until) if str(each)]
    longest = next(
        (arguments[key] for key in ("max_gen_toks", "max_new_tokens", "max_tokens") if key in arguments), None
    )
    return {
        "max_tokens": config.max_tokens if longest is None else int(longest),
        "stop": list(dict.fromkeys([*stop, *config.stop])),
    }
