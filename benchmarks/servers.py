"""The same prompts to this process's engine and to two real servers, compared answer by answer.

Prompts are made once, by the embedded model's own template. Servers take them as token ids, or as text where they do
not take ids, so that whatever differs is the servers' doing. Each is asked twice, the second time in the opposite
order. Needs the packages of llama-cpp-python's extra `server`; builds llama.cpp's llama-server the first time.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from common import config, model_file
from running import llama_cpp_server, llama_server

from quantexp.config import Config, EngineConfig, PromptForm
from quantexp.engines import Completion, Decoding, Engine, Prompt, close_engine, open_engine
from quantexp.evaluation.answers import AnswerReader
from quantexp.evaluation.prompts import Prompter
from quantexp.evaluation.scoring import GradedOutput, list_verdicts
from quantexp.models import ModelFile
from quantexp.tasks import get_task
from quantexp.tasks.data import load
from quantexp.tasks.items import draw_items
from quantexp.tasks.reasoning import NONE, Output
from quantexp.util.native.threads import usable_cores

ITEMS = 24
"""Of each task."""

SERVERS: tuple[tuple[str, PromptForm, int, dict[str, Any]], ...] = (
    ("llama-server, 1 request at once", PromptForm.tokens, 1, {}),
    ("llama-server, 4 requests at once", PromptForm.tokens, 4, {}),
    # It punishes repetition, by 1.1, unless it is told not to.
    ("llama_cpp.server", PromptForm.text, 4, {"repeat_penalty": 1.0}),
)

Answers = dict[str, Completion]


def main() -> None:
    """Print a table for docs/how-to/servers.md."""
    jobs = [config(f"task={name}", f"task.limit={ITEMS}") for name in ("gsm8k", "triviaqa", "extraction")]
    file = model_file(jobs[0])
    prompts, here = {}, {}
    for job in jobs:
        engine = open_engine(file, job.model, job.engine)
        data = load(job.data, get_task(job.task.name))
        prompter = Prompter(get_task(job.task.name), job.task, job.model, data.examples, engine)
        asked = [prompter.prompt(item) for item in draw_items(data.items, 0, job.task.limit)]
        prompts[job.task.name] = asked, prompter.decoding
        here[job.task.name] = answers(engine, asked, prompter.decoding)
    close_engine()
    print("| server | task | same answer | same score | mean score here, there | asked twice |")
    print("|---|---|---|---|---|---|")
    for name, form, concurrency, extra in SERVERS:
        with _server(name, file, jobs[0].model.context) as address:
            remote = EngineConfig("openai", url=address, prompt=form, concurrency=concurrency, extra_body=extra)
            for job in jobs:
                asked, decoding = prompts[job.task.name]
                engine = open_engine(file, job.model, remote)
                there = answers(engine, asked, decoding)
                again = answers(engine, asked[::-1], decoding)
                print(f"| {name} | {job.task.name} | {row(job, here[job.task.name], there, again)} |", flush=True)
            close_engine()


@contextmanager
def _server(name: str, file: ModelFile, context: int) -> Iterator[str]:
    if name.startswith("llama-server"):
        with llama_server(file.path, context, usable_cores()) as address:
            yield address
    else:
        with llama_cpp_server(file.path, context, usable_cores()) as address:
            yield address


def answers(engine: Engine, prompts: Sequence[Prompt], decoding: Decoding) -> Answers:
    """By item, without the times."""
    found = engine.complete(prompts, decoding)
    return {prompt.item_id: replace(each, prompt_seconds=0.0, generation_seconds=0.0) for prompt, each in found}


def row(job: Config, here: Answers, there: Answers, again: Answers) -> str:
    """One line of the table: equal texts, equal scores, the means, and what a second asking changed."""
    task = get_task(job.task.name)
    grader = task.grader(job.task.grader)
    fields = {item.id: item.fields for item in load(job.data, task).items}

    reader = AnswerReader(NONE)
    same = sum(here[item].text == there[item].text for item in here)
    with grader.open({}) as grade:
        scores = []
        for side in (here, there):
            given = [
                GradedOutput(Output(each.text), fields[item], each.finish_reason, "") for item, each in side.items()
            ]
            found = list_verdicts(reader, grade, given)
            scores.append({item: float(each["score"]) for item, each in zip(side, found, strict=True)})
    alike = sum(scores[0][item] == scores[1][item] for item in here)
    means = [sum(side.values()) / len(side) for side in scores]
    twice = sum(there[item].text == again[item].text for item in there)
    total = len(here)
    return f"{same} of {total} | {alike} of {total} | {means[0]:.3f}, {means[1]:.3f} | {twice} of {total} the same"


if __name__ == "__main__":
    main()
