"""Problems of a configuration with the engine that it chooses, for engines in this process and for servers."""

import math
from collections.abc import Iterator
from urllib.parse import urlsplit

from quantexp.config.choices import UNQUANTIZED, ExamplePlace, FlashAttention, PromptForm, ReasoningEnd
from quantexp.config.schema import Config, EngineConfig, SamplingConfig
from quantexp.tasks.reasoning import FORMATS, apply_task_budget, get_format
from quantexp.util.redaction import find_secret, variable_problem
from quantexp.util.urls import address_problem

LOCAL = ("threads", "gpu_layers", "lanes", "kv_memory_gb", "kv_key", "kv_value", "flash_attention")
"""What only a model in this process has."""

REMOTE = ("url", "urls", "model", "api_key_variable", "extra_body", "prompt_logprobs")
"""What only a server has."""

TEMPLATE_FIELDS = frozenset({"chat_template_kwargs", "reasoning_effort"})
"""Fields of a request that `model.template` decides, if it holds anything."""

OURS = frozenset({"model", "messages", "prompt", "max_tokens", "temperature", "top_p", "seed", "stop", "stream"})
"""Fields of a request that other keys of the configuration decide."""

SAMPLING = ("min_p", "top_k", "presence_penalty", "frequency_penalty", "repetition_penalty")
"""Keys of `task.sampling` that are sent only if one of them asks for something."""

NAMES_OF_SAMPLING = frozenset({*SAMPLING, "repeat_penalty", "repeat_last_n", "penalty_range"})
"""Fields of a request that stand for them, whichever the server."""


def _reasoning_problems(config: Config) -> Iterator[str]:
    given = config.model.reasoning
    if given != "auto" and get_format(given) is None:
        yield (
            f"model.reasoning={given} is unknown; choose auto, {', '.join(FORMATS)}, or marks of your own as "
            "OPEN...CLOSE, such as '<reason>...</reason>'."
        )


def local_problems(config: Config) -> Iterator[str]:
    """Yield a sentence for each, where the model is to run in this process."""
    yield from _reasoning_problems(config)
    if config.task.lengths and max(config.task.lengths) > config.engine.context:
        longest = max(config.task.lengths)
        yield (
            f"task.lengths asks for texts of {longest} tokens, and engine.context={config.engine.context} holds no "
            f"more than that: set engine.context={longest}, or lower task.lengths."
        )
    for key in _set(config.engine, REMOTE):
        yield f"engine.{key} is of a server, and engine={config.engine.name} runs the model itself: add engine=openai."
    value = config.engine.kv_value
    if config.engine.flash_attention is FlashAttention.off and value not in UNQUANTIZED:
        yield (
            f"engine.kv_value={value.value} needs flash attention, and engine.flash_attention is off: set it to auto, "
            "or engine.kv_value to f16, bf16 or f32."
        )
    if config.model.source == "server":
        yield (
            f"model.source=server: there is no file of {config.model.name} to load here; add engine=openai and "
            "engine.url, or choose a model with a file."
        )
    elif config.quant.method is not None:
        yield f"quant={config.quant.name} is no GGUF; serve it, and add engine=openai model=server."


def server_problems(config: Config) -> Iterator[str]:
    """Yield a sentence for each, where a server has the model."""
    engine, sampling = config.engine, config.task.sampling
    yield from _address_problems(engine)
    yield from _reasoning_problems(config)
    if config.task.reasoning_end is ReasoningEnd.force:
        yield "task.reasoning_end=force needs a model in this process: leave it out, or set engine=llama_cpp."
    granted = apply_task_budget(config).reasoning_tokens
    in_answer = config.model.examples is ExamplePlace.answer and bool(config.task.shots)
    if granted and (config.task.stop or in_answer):
        yield (
            "A server's stop strings end reasoning too, so task.stop and model.examples=answer do not go with "
            "reasoning_tokens: leave one of them out, or set engine=llama_cpp."
        )
    if config.model.template and (both := TEMPLATE_FIELDS & engine.extra_body.keys()):
        yield f"engine.extra_body may not hold {', '.join(sorted(both))} where model.template has them: leave one out."
    if (problem := variable_problem("engine.api_key_variable", engine.api_key_variable)) is not None:
        yield problem
    for key in _set(engine, LOCAL):
        yield f"engine.{key} is of a model in this process, and engine=openai asks a server: leave it out."
    if not (engine.timeout > 0 and math.isfinite(engine.timeout)):
        yield f"engine.timeout={engine.timeout} must be a number of seconds above 0."
    if engine.prompt is not PromptForm.messages and config.model.source == "server":
        yield (
            f"engine.prompt={engine.prompt.value} makes the prompt here, by the template in a GGUF, and model=server "
            "has none: set engine.prompt=messages, or model=local model.path=FILE."
        )
    if engine.prompt is PromptForm.messages and config.model.chat_template is not None:
        yield (
            "model.chat_template is not used where the server makes the prompt: give it to the server, or set "
            "engine.prompt=text."
        )
    if engine.prompt is PromptForm.messages and in_answer:
        yield (
            "model.examples=answer begins the model's own answer, which a chat sent to a server cannot do: set "
            "engine.prompt=text (or tokens), which makes the prompt here, or model.examples=turns."
        )
    chosen = [key for key in SAMPLING if getattr(sampling, key) != getattr(SamplingConfig, key)]
    if chosen and (twice := sorted(NAMES_OF_SAMPLING & engine.extra_body.keys())):
        yield (
            f"engine.extra_body has {', '.join(twice)}, and task.sampling.{chosen[0]} is sent with all that goes with "
            "it: leave one of them out."
        )
    if taken := sorted(OURS & engine.extra_body.keys()):
        yield f"engine.extra_body may not hold {', '.join(taken)}, which other keys of the configuration decide."
    if secret := find_secret(engine.extra_body):
        yield (
            f"engine.extra_body.{secret} looks like a secret, and the configuration is recorded with every run: put "
            "the key in an environment variable and name that with engine.api_key_variable=NAME, or give it to the "
            "server."
        )
    bits = config.quant.bits_per_weight
    if bits is not None and (config.model.source != "server" or config.model.checkpoint is not None):
        yield "quant.bits_per_weight is for a model of which no file is here: this one's is measured; leave it out."
    if config.quant.method is not None and config.model.source != "server":
        yield f"quant={config.quant.name} is no GGUF; add model=server."


def _address_problems(engine: EngineConfig) -> Iterator[str]:
    if engine.url is None:
        yield "engine.url has no value; add engine.url=VALUE, or engine.urls={QUANT: VALUE, ...}, to the command."
        return
    for key, url in {
        **{f"engine.urls.{quant}": url for quant, url in engine.urls.items()},
        "engine.url": engine.url,
    }.items():
        parts = urlsplit(str(url))
        if "@" in parts.netloc or parts.query:
            # Without the address: it holds what is not to be shown.
            yield (
                f"{key} may hold no password and no query, since it is recorded with every run; put the key in an "
                "environment variable and name that with engine.api_key_variable=NAME."
            )
        elif (problem := address_problem(key, str(url))) is not None:
            yield problem


def _set(engine: EngineConfig, keys: tuple[str, ...]) -> list[str]:
    """Those of the keys that have another value than the default."""
    default = EngineConfig()
    return [key for key in keys if getattr(engine, key) != getattr(default, key)]
