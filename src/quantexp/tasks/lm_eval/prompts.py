"""Requests of documents, in the words of lm-evaluation-harness: its examples, delimiters and prefixes."""

from collections.abc import Mapping, Sequence
from typing import Any

from quantexp.tasks.items import Item, fingerprint
from quantexp.tasks.lm_eval.documents import DOCUMENT, PLACE, SUBTASK
from quantexp.tasks.lm_eval.harness import FOREIGN, Harness, describe_error, quiet, seeded
from quantexp.tasks.requests import Context, ItemRequests
from quantexp.util.errors import UserError

WRITES, SCORES = "generate_until", "loglikelihood"
"""Kinds of request, as the harness names them."""

_ALIKE = (0, 1)
"""Places of the documents whose contexts tell what all have in common."""


class Chat(str):
    """A chat's last words, where the harness wants the whole chat as a text.

    Attributes:
        messages: the turns before them.
    """

    messages: tuple[Mapping[str, str], ...]


def hold_chat(messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> Chat:
    """Take the place of a chat template: keep the turns, for the engine to apply its own.

    Args:
        messages: the turns.
        add_generation_prompt: false if the last one is the beginning of the answer.
    """
    begun = "" if add_generation_prompt else str(messages[-1]["content"])
    held = Chat(begun)
    held.messages = tuple(messages if add_generation_prompt else messages[:-1])
    return held


def ask_documents(
    harness: Harness, items: Sequence[Item], chat: bool, system: str = ""
) -> dict[str, tuple[ItemRequests, dict[str, Any]]]:
    """Make the requests of items.

    Args:
        harness: the tasks.
        items: of theirs.
        chat: whether they are asked as chats.
        system: the system turn of chats.

    Returns:
        The requests by the items' ids, with the arguments of generation.

    Raises:
        UserError: a task cannot make them, or makes requests that are not measured here.
    """
    found = {}
    for name, task in harness.tasks.items():
        own = [item for item in items if item.fields[SUBTASK] == name]
        if not own:
            continue
        made = _build_requests(harness, name, task, {item.fields[PLACE] for item in own}, chat, system)
        alike = tuple(_contexts(name, made[place], chat)[0] for place in _ALIKE if place in made)
        for item in own:
            instances = made[item.fields[PLACE]]
            if fingerprint([instances[0].doc]) != fingerprint([item.fields[DOCUMENT]]):
                raise UserError(
                    f"The documents of {name} are others each time that its definition makes them, so runs of it "
                    "cannot be compared."
                )
            contexts = _contexts(name, instances, chat)
            writes = instances[0].request_type == WRITES
            request = ItemRequests(
                item.fields["question"],
                contexts,
                () if writes else tuple(str(each.args[1]) for each in instances),
                alike,
            )
            found[item.id] = request, dict(instances[0].args[1]) if writes else {}
    return found


def _build_requests(
    harness: Harness, name: str, task: Any, places: set[int], chat: bool, system: str
) -> dict[int, list[Any]]:
    """Have a task build the requests of documents, and of those that are `_ALIKE`."""
    with seeded(), quiet():
        count = len(task.eval_docs)
    wanted = sorted({*places, *(place for place in _ALIKE if place < count)})
    if task.config.num_fewshot > 0 and _draws(task):
        # Examples are drawn for one document after the other: those of one depend on how many came before it.
        wanted = list(range(wanted[-1] + 1))
    options: dict[str, Any] = {}
    if chat:
        options = {"apply_chat_template": True, "fewshot_as_multiturn": True, "chat_template": hold_chat}
        options |= {"system_instruction": system} if system else {}
    task.set_fewshot_seed(harness.seed)
    try:
        with seeded(), quiet():
            task.build_all_requests(samples=set(wanted), **options)
    except FOREIGN as error:
        raise UserError(
            f"lm-evaluation-harness cannot make the prompts of {name} ({describe_error(error)}); try fewer "
            "examples (task.shots), or correct its definition."
        ) from error
    made: dict[int, list[Any]] = {}
    for instance in task.instances:
        made.setdefault(wanted[instance.doc_id], []).append(instance)
    for instances in made.values():
        instances.sort(key=lambda instance: int(instance.idx))
        kinds = {instance.request_type for instance in instances}
        if len(kinds) > 1 or not kinds <= {WRITES, SCORES} or (WRITES in kinds and len(instances) > 1):
            raise UserError(
                f"{name} asks for {' and '.join(sorted(kinds))} of one document, which is not measured here: choose "
                "another task."
            )
    return made


def _draws(task: Any) -> bool:
    """Return whether worked examples are drawn anew for each document."""
    from lm_eval.api.samplers import FirstNSampler

    return not isinstance(getattr(task, "sampler", None), FirstNSampler)


def _contexts(name: str, instances: Sequence[Any], chat: bool) -> tuple[Context, ...]:
    found = []
    for instance in instances:
        context = instance.args[0]
        if not chat or (context == "" and not isinstance(context, Chat)):
            found.append(Context(str(context)))
        elif isinstance(context, Chat):
            found.append(Context(str(context), context.messages))
        else:
            raise UserError(f"{name} puts words of its own around a chat: ask it in plain text, with task.chat=false.")
    return tuple(found)
