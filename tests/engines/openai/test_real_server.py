"""The engine for servers against a real one, llama_cpp.server; `make integration` holds llama-server to the same."""

import pytest
from tests.support.predictions import alike, both

from quantexp.config import EngineConfig, ModelConfig, PromptForm
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.openai.engine import OpenAIServer
from quantexp.models import ModelFile
from quantexp.util.errors import UserError


@pytest.mark.parametrize("form", [PromptForm.text, PromptForm.messages], ids=lambda form: form.value)
def test_its_answers_are_those_of_the_engine_in_this_process(
    form: PromptForm, llama_cpp_server: str, engine: LlamaCpp, q8_0: ModelFile, demo: ModelConfig
) -> None:
    greedy = {"repeat_penalty": 1.0}  # it punishes repetition, by 1.1, unless it is told not to
    assert alike(both(llama_cpp_server, form, engine, q8_0, demo, items=4, extra_body=greedy)) >= 3


def test_it_takes_what_narrows_a_draw(
    llama_cpp_server: str, engine: LlamaCpp, q8_0: ModelFile, demo: ModelConfig
) -> None:
    # Of one token nothing is left to chance; without top_k, a temperature of 5 would write nonsense.
    narrow = {"temperature": 5.0, "top_k": 1}
    assert alike(both(llama_cpp_server, PromptForm.text, engine, q8_0, demo, items=3, changes=narrow)) >= 2


def test_what_it_is_and_does_not_take_is_known(llama_cpp_server: str, q8_0: ModelFile, demo: ModelConfig) -> None:
    config = EngineConfig("openai", url=llama_cpp_server)
    there = OpenAIServer(q8_0, demo, config)
    assert (there.machine["system"], there.machine["logprobs"]) == ("llama_cpp.server", "yes")
    assert there.machine["model"] == q8_0.path
    there.close()
    with pytest.raises(UserError, match=r"does not accept the request .* check engine.prompt|gave no answer"):
        OpenAIServer(q8_0, demo, EngineConfig("openai", url=llama_cpp_server, prompt=PromptForm.tokens, retries=0))
