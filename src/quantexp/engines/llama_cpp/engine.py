"""llama.cpp in this process, several answers at a time, through llama-cpp-python's low-level API."""

import logging
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from quantexp.config import EngineConfig, ModelConfig
from quantexp.engines.base import (
    READS,
    Continuation,
    Decoding,
    Message,
    Prompt,
    PromptCompletion,
    Tool,
    decisive,
    hash_key,
)
from quantexp.engines.llama_cpp.contexts import LaneContext
from quantexp.engines.llama_cpp.continuations import ContinuationReader
from quantexp.engines.llama_cpp.footprint import recall_footprints
from quantexp.engines.llama_cpp.kv_cache import read_kv_cache
from quantexp.engines.llama_cpp.lanes import Lanes, split
from quantexp.engines.llama_cpp.marks import TokenMarks
from quantexp.engines.llama_cpp.memory import room_of
from quantexp.engines.llama_cpp.teacher_forcing import Forcing, read_vocabulary
from quantexp.engines.llama_cpp.tokenizer import Wording
from quantexp.engines.sequences import Distributions, TokenSequence, Vocabulary, hash_sequences
from quantexp.models import ModelFile
from quantexp.models.footprint import Footprint
from quantexp.store.completion import Completion
from quantexp.tasks.reasoning import Output, ReasoningFormat, get_reasoning_tokens
from quantexp.util.errors import UserError
from quantexp.util.llama_library import (
    check_library,
    has_refused_amx,
    last_error,
    llama_cpp,
    open_model,
    quiet_llama,
)
from quantexp.util.native.library import library_build
from quantexp.util.native.threads import usable_cores

log = logging.getLogger(__name__)

REVISION = 1
"""Part of every completion's key. Raise it with a change of this engine that can change an answer."""


class LlamaCpp:
    """A loaded GGUF and one context.

    Attributes:
        file: the GGUF.
        model: llama.cpp's pointer to the loaded model, for contexts beside this one; not after `close`.
        threads: how many compute.
        words: how a variant computes.
    """

    capabilities = READS

    def __init__(self, file: ModelFile, model: ModelConfig, engine: EngineConfig, *, variant: bool = False) -> None:
        quiet_llama()
        self._model_config, self._variant, self._given = model, variant, engine
        engine = replace(engine, gpu_layers=_gpu_layers(engine))
        self.file, self._config = file, engine
        self.threads = engine.threads or usable_cores()
        cache = read_kv_cache(engine)
        self._cache = cache.vary() if variant else cache
        self.words = ""
        if variant:
            self.words = f"by other kernels of llama.cpp (weights not repacked{self._cache.compare(cache)})"
        model_parameters = llama_cpp.llama_model_default_params()
        model_parameters.n_gpu_layers = self._config.gpu_layers
        self._repacked = check_library().kernels == "repacked"
        model_parameters.use_extra_bufts = self._repacked and not variant
        # Jobs of a sweep share a process: what a refused one has loaded must not stay.
        with ExitStack() as held:
            self.model = held.enter_context(open_model(file.path, model_parameters))
            if self.model is None:
                raise UserError(f"llama.cpp could not load {file.path}: {last_error()}.")
            self._wording = Wording(self.model, model, file)
            self._marks = TokenMarks(llama_cpp.llama_model_get_vocab(self.model), self._wording.reasoning)
            engine = self._config = replace(engine, context=room_of(self._wording.reasoning, model, engine))
            if 0 < file.training_context < engine.context:
                log.warning(
                    "a context of %d tokens is more than the %d that %s was trained for",
                    engine.context, file.training_context, Path(file.path).name,
                )  # fmt: skip
            self._context = LaneContext(self.model, file, engine, self._cache, self.threads)
            held.callback(self._context.close)
            self._lanes = Lanes(self.model, self._marks)
            self._held = held.pop_all()

    @property
    def lanes(self) -> int:
        """How many answers are written at once, at most."""
        return self._context.lanes

    @property
    def settings(self) -> Mapping[str, str]:
        """The library, and what was set; lanes only as far as they change an answer."""
        return {
            "engine": "llama_cpp",
            "library": f"llama-cpp-python {version('llama-cpp-python')}",
            "gpu_layers": str(self._config.gpu_layers),
            "context": str(self._config.context),
            "lanes": "one" if self.lanes == 1 else "several",
            **self._cache.settings,
        }

    @property
    def sizes(self) -> Mapping[str, float]:
        """Bytes that a token's keys and values take."""
        return {"kv_bytes_per_token": self._cache.bytes_per_token(self.model)}

    @cached_property
    def footprints(self) -> tuple[Footprint, ...]:
        """Memory of one conversation beside the weights; none, and the log says why, if llama.cpp does not tell."""
        try:
            return recall_footprints(self.file.path, self.file.sha256, self._cache)
        except UserError as error:
            log.info("the memory that %s takes is not recorded: %s", Path(self.file.path).name, error)
            return ()

    @property
    def shares_beginnings(self) -> bool:
        """True but for models with recurrent layers, which cannot go back to the end of a beginning."""
        return self._lanes.can_trim

    @property
    def machine(self) -> Mapping[str, str]:
        """The processor's features that llama.cpp uses, the build, and this engine's revision."""
        facts = {
            "system": llama_cpp.llama_print_system_info().decode().strip(),
            "build": library_build(),
            "revision": str(REVISION),
        }
        # Said only of machines on which something is amiss: the keys of all others' completions stay as they were.
        if not self._repacked:
            facts["repacked"] = "off"
        if has_refused_amx():
            facts["amx"] = "refused"
        # A single row attends to long prompts in as many parts as there are threads (ggml's split-KV path).
        return facts | ({"threads": str(self.threads)} if self.lanes == 1 else {})

    @property
    def chat_template(self) -> str:
        """The Jinja source in use."""
        return self._wording.template

    @property
    def reasoning(self) -> ReasoningFormat:
        """The format in which the model marks its reasoning."""
        return self._marks.form

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of reasoning for which there is room."""
        return get_reasoning_tokens(self._model_config) if self.reasoning.marks else 0

    def read_output(self, prompt: Prompt, completion: Completion) -> Output:
        """Return what the model wrote, with the marks among its tokens."""
        return self._marks.read(completion.tokens, completion.text, prompt.start)

    @property
    def takes_tools(self) -> bool:
        """True if the chat template tells a model of functions."""
        return self._wording.takes_tools

    def render(self, messages: Sequence[Message], begun: str = "", tools: Sequence[Tool] = ()) -> str:
        """Apply the chat template."""
        return self._wording.render(messages, tools) + begun

    def encode_chat(
        self, messages: Sequence[Message], begun: str = "", tools: Sequence[Tool] = ()
    ) -> tuple[str, tuple[int, ...]]:
        """Return the prompt's text and token ids; the name of a special token in a message is text."""
        return self._wording.encode_chat(messages, begun, tools)

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Token ids, the names of special tokens parsed; BOS added unless the text begins with it."""
        return self._wording.tokenize(text)

    def complete(self, prompts: Iterable[Prompt], decoding: Decoding) -> Generator[PromptCompletion, None, None]:
        """Prompts with their completions, each as it is finished, and the same whatever is generated beside it."""
        fitting, longest, needed = [], decoding.longest, 0
        if decoding.thinking is not None:
            longest += len(self._marks.forced)  # forced or not, so that the same items are asked
        for prompt in prompts:
            if len(prompt.tokens) + longest > self._config.context:
                yield prompt, Completion((), (), "", "context", 0.0, 0.0)
            else:
                fitting.append(prompt)
                needed = max(needed, len(prompt.tokens) + longest)
        if not fitting:
            return
        self._lanes.use(self._context.open(needed), self._context.lanes)
        yield from self._lanes.run(fitting, decoding)

    def key(self, prompt: Prompt, decoding: Decoding) -> bytes:
        """sha256 of all that the prompt's completion depends on."""
        return hash_key({**self._key_of(prompt), "decoding": decisive(prompt, decoding)})

    def _key_of(self, prompt: Prompt) -> dict[str, Any]:
        """Collect what everything depends on that is computed after a prompt."""
        return {
            "file": self.file.sha256,
            "settings": dict(self.settings),
            "machine": dict(self.machine),
            "tokens": prompt.tokens,
            "split": split(prompt),
        }

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The model's vocabulary."""
        return read_vocabulary(self.model)

    @property
    def bos(self) -> tuple[int, ...]:
        """BOS, if the vocabulary adds it to a text."""
        return self._wording.bos

    @cached_property
    def beginning(self) -> tuple[int, ...]:
        """BOS, whether or not the vocabulary adds it to a text; of one without BOS the end of a text."""
        vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        bos = llama_cpp.llama_vocab_bos(vocabulary)
        return (bos if bos >= 0 else llama_cpp.llama_vocab_eos(vocabulary),)

    def tokenize_plain(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, BOS before it if the vocabulary adds one; names of special tokens are text."""
        return self._wording.tokenize_plain(text)

    def text_of(self, tokens: Iterable[int]) -> str:
        """Return the tokens' text; bytes that are not UTF-8 become U+FFFD."""
        return self._wording.text_of(tokens)

    def score(self, prompts: Iterable[Continuation]) -> Generator[tuple[Continuation, Completion], None, None]:
        """Yield each prompt with its continuation, scored in a context beside the engine's own, in order.

        Raises:
            UserError: see `ContinuationReader.score`; or there is no memory for the context.
        """
        context = self._config.context
        with ContinuationReader(self.model, context=context, threads=self.threads, cache=self._cache) as reader:
            yield from reader.score(prompts)

    def score_key(self, prompt: Continuation) -> bytes:
        """sha256 of all that the continuation's log-probabilities depend on."""
        return hash_key({**self._key_of(prompt), "continuation": prompt.continuation, "says": "likeliest"})

    def distributions(self, sequences: Iterable[TokenSequence]) -> Generator[Distributions, None, None]:
        """Yield the distributions over all scored tokens of the sequences, in a context beside the engine's own.

        Raises:
            ValueError, UserError: see `Forcing.rows`; or there is no memory for the context.
        """
        with Forcing(self.model, context=self._config.context, threads=self.threads, cache=self._cache) as forcing:
            yield from forcing.distributions(sequences)

    def reading_facts(self, sequences: Iterable[TokenSequence]) -> Mapping[str, str]:
        """All that the distributions over these sequences depend on."""
        return {"file": self.file.sha256, **self.settings, **self.machine, "sequences": hash_sequences(sequences)}

    def open_variant(self) -> "LlamaCpp | None":
        """Return the same file and settings, computed by other kernels that are as right as these, if there are any."""
        if not self._repacked and self._cache.vary() == self._cache:
            return None
        return LlamaCpp(self.file, self._model_config, self._given, variant=True)

    def close(self) -> None:
        """Free everything that llama.cpp holds."""
        self._held.close()


def _gpu_layers(engine: EngineConfig) -> int:
    """Layers for the GPU: none on a CPU build where all were asked for."""
    if engine.gpu_layers == 0 or llama_cpp.llama_supports_gpu_offload():
        return engine.gpu_layers
    if engine.gpu_layers > 0:
        raise UserError(
            f"engine.gpu_layers={engine.gpu_layers} needs a GPU build of llama-cpp-python, and this "
            "is a CPU build; set engine.gpu_layers=0, or install a GPU build (see docs/how-to/gpu.md)."
        )
    _warn_of_cpu_build()
    return 0


@cache
def _warn_of_cpu_build() -> None:
    """Once a process: the jobs of a sweep share it."""
    log.warning(
        "llama-cpp-python was built for the CPU: no layers on a GPU, although engine.gpu_layers=-1 asks for all"
    )
