"""What every real server is held to: the engine in this process, on the same items of the same task."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quantexp.config import DataConfig, EngineConfig, ExamplePlace, ModelConfig, PromptConfig, PromptForm, TaskConfig
from quantexp.engines import Completion, Engine, Prompt
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.openai.engine import OpenAIServer
from quantexp.evaluation.prompts import Prompter
from quantexp.models import ModelFile
from quantexp.tasks import get_task
from quantexp.tasks.data import load

TASK = TaskConfig(
    "triviaqa",
    prompt=PromptConfig(1, "Answer the question in a few words.", "Question: {question}"),
    grader="triviaqa",
    max_tokens=8,
    shots=2,
)


def prompts_of(engine: Engine, model: ModelConfig, items: int) -> tuple[Prompter, list[Prompt]]:
    """The first items of the bundled trivia as an engine is asked them."""
    task = get_task("triviaqa")
    data = load(DataConfig("bundled"), task)
    prompter = Prompter(task, TASK, model, data.examples, engine)
    return prompter, [prompter.prompt(item) for item in data.items[:items]]


def both(
    address: str,
    form: PromptForm,
    here: LlamaCpp,
    file: ModelFile,
    model: ModelConfig,
    items: int,
    changes: Mapping[str, Any] | None = None,
    **config: Any,
) -> list[tuple[Prompt, Completion, Completion]]:
    """Each prompt, with the answer of the engine in this process and the server's; `changes` are of the decoding."""
    place = ExamplePlace.turns if form is PromptForm.messages else ExamplePlace.answer
    model = replace(model, examples=place)
    there = OpenAIServer(file, model, EngineConfig("openai", url=address, prompt=form, **config))
    try:
        prompter, asked = prompts_of(here, model, items)
        _, sent = prompts_of(there, model, items)
        decoding = replace(prompter.decoding, **(changes or {}))
        ours = {prompt.item_id: each for prompt, each in here.complete(asked, decoding)}
        theirs = {prompt.item_id: each for prompt, each in there.complete(sent, decoding)}
    finally:
        there.close()
    return [(prompt, ours[prompt.item_id], theirs[prompt.item_id]) for prompt in asked]


def alike(found: list[tuple[Prompt, Completion, Completion]]) -> int:
    """Answers that are the same on both sides; where both read the same tokens, most are."""
    for prompt, ours, theirs in found:
        assert theirs.counted is not None
        assert theirs.counted[0] == len(prompt.tokens), "the server has read another prompt"
        assert ours.finish_reason == theirs.finish_reason or ours.text != theirs.text
    return sum(ours.text == theirs.text for _, ours, theirs in found)
