"""llama.cpp in this process, one sequence at a time, through llama-cpp-python's low-level API."""

import ctypes
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import jinja2
import psutil

from quantexp.config import EngineConfig, ModelConfig
from quantexp.engines.base import Completion, Decoding, FinishReason, Message, Prompt
from quantexp.errors import UserError
from quantexp.llama import Jinja2ChatFormatter, interrupts_later, last_error, llama_cpp, quiet_llama
from quantexp.models import ModelFile

log = logging.getLogger(__name__)

BATCH = 512
"""Prompt tokens decoded in one call, llama.cpp's default. Other sizes change some answers, so it is not an option."""


class LlamaCpp:
    """A loaded GGUF and one context."""

    def __init__(self, file: ModelFile, model: ModelConfig, engine: EngineConfig) -> None:
        quiet_llama()
        self._context_tokens = engine.context
        self._gpu_layers = engine.gpu_layers
        if 0 < file.training_context < engine.context:
            log.warning(
                "engine.context=%d is more than the %d tokens that %s was trained for",
                engine.context, file.training_context, Path(file.path).name,
            )  # fmt: skip
        if engine.gpu_layers != 0 and not llama_cpp.llama_supports_gpu_offload():
            raise UserError(
                f"engine.gpu_layers={engine.gpu_layers} needs a GPU build of llama-cpp-python, and this "
                "is a CPU build; set engine.gpu_layers=0, or install a GPU build (see the README)."
            )
        model_parameters = llama_cpp.llama_model_default_params()
        model_parameters.n_gpu_layers = engine.gpu_layers
        with interrupts_later():
            self._model = llama_cpp.llama_model_load_from_file(file.path.encode(), model_parameters)
        if not self._model:
            raise UserError(f"llama.cpp could not load {file.path}: {last_error()}.")
        # Jobs of a sweep share a process: what a refused one has loaded must not stay.
        with ExitStack() as held:
            held.callback(llama_cpp.llama_model_free, self._model)
            self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
            self._template = _chat_template(self._model, model, file)
            self._formatter = self._compiled(self._template)
            parameters = llama_cpp.llama_context_default_params()
            parameters.n_ctx = engine.context
            parameters.n_batch = parameters.n_ubatch = BATCH
            parameters.n_threads = parameters.n_threads_batch = engine.threads or usable_cores()
            with interrupts_later():
                self._context = llama_cpp.llama_init_from_model(self._model, parameters)
            if not self._context:
                raise UserError(
                    f"llama.cpp could not make a context of {engine.context} tokens for {file.path}: {last_error()}; "
                    "lower engine.context."
                )
            held.callback(llama_cpp.llama_free, self._context)
            self._memory = llama_cpp.llama_get_memory(self._context)
            self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
            held.callback(llama_cpp.llama_batch_free, self._batch)
            self._sampler = llama_cpp.llama_sampler_init_greedy()
            held.callback(llama_cpp.llama_sampler_free, self._sampler)
            self._held = held.pop_all()

    @property
    def identity(self) -> Mapping[str, str]:
        """The library, the CPU features it uses, and what was set."""
        return {
            "engine": "llama_cpp",
            "library": f"llama-cpp-python {version('llama-cpp-python')}",
            "system": llama_cpp.llama_print_system_info().decode(),
            "gpu_layers": str(self._gpu_layers),
            "context": str(self._context_tokens),
        }

    @property
    def chat_template(self) -> str:
        """The Jinja source in use."""
        return self._template

    def render(self, messages: list[Message]) -> str:
        """Apply the chat template.

        Raises:
            UserError: the template refuses these messages.
        """
        try:
            return str(self._formatter(messages=messages).prompt)
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise UserError(
                f"The model's chat template refuses the prompt ({error}); give another with model.chat_template=FILE."
            ) from error

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Token ids, the template's special tokens parsed; BOS added unless the text begins with it."""
        bos = self._token_text(llama_cpp.llama_vocab_bos(self._vocabulary))
        add_special = not (bos and text.startswith(bos))
        data = text.encode()
        room = len(data) + 8
        tokens = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), tokens, room, add_special, True)
        return tuple(tokens[:count])

    def complete(self, prompts: Iterable[Prompt], decoding: Decoding) -> Iterator[Completion]:
        """Completions in the order of the prompts.

        The tokens that all prompts share are decoded once, in a call of their own, whichever items
        are run: an answer depends on its own prompt only.
        """
        held: tuple[int, ...] = ()
        llama_cpp.llama_memory_clear(self._memory, True)
        for prompt in prompts:
            if len(prompt.tokens) + decoding.max_tokens > self._context_tokens:
                yield Completion(prompt.item_id, "", (), "context", 0.0, 0.0)
                continue
            started = time.perf_counter()
            shared = prompt.tokens[: prompt.shared]
            # Recurrent models cannot forget a part of a sequence: they read the shared part again.
            if shared != held or not llama_cpp.llama_memory_seq_rm(self._memory, 0, len(held), -1):
                llama_cpp.llama_memory_clear(self._memory, True)
                self._decode(shared, 0)
                held = shared
            self._decode(prompt.tokens[len(shared) :], len(shared))
            read = time.perf_counter()
            text, tokens, reason = self._generate(len(prompt.tokens), decoding)
            yield Completion(
                prompt.item_id,
                text,
                tokens,
                reason,
                read - started,
                time.perf_counter() - read,
            )

    def close(self) -> None:
        """Free everything that llama.cpp holds."""
        self._held.close()

    def _compiled(self, template: str) -> Jinja2ChatFormatter:
        try:
            return Jinja2ChatFormatter(
                template=template,
                bos_token=self._token_text(llama_cpp.llama_vocab_bos(self._vocabulary)),
                eos_token=self._token_text(llama_cpp.llama_vocab_eos(self._vocabulary)),
            )
        except jinja2.TemplateError as error:
            raise UserError(
                f"The model's chat template is not valid Jinja ({error}); give another with model.chat_template=FILE."
            ) from error

    def _generate(self, position: int, decoding: Decoding) -> tuple[str, tuple[int, ...], FinishReason]:
        """Write from where the prompt ends until the answer does."""
        tokens: list[int] = []
        # All bytes are kept and decoded once: a character may span several tokens.
        written = bytearray()
        stops = [stop.encode() for stop in decoding.stop]
        reason: FinishReason = "length"
        while True:
            token = llama_cpp.llama_sampler_sample(self._sampler, self._context, -1)
            if llama_cpp.llama_vocab_is_eog(self._vocabulary, token):
                reason = "stop"
                break
            tokens.append(token)
            piece = self._piece(token)
            written += piece
            found = [written.find(stop, max(0, len(written) - len(stop) - len(piece))) for stop in stops]
            if any(place >= 0 for place in found):
                del written[min(place for place in found if place >= 0) :]
                reason = "stop"
                break
            if len(tokens) == decoding.max_tokens:
                break
            self._decode((token,), position)
            position += 1
        return written.decode("utf-8", "replace"), tuple(tokens), reason

    def _decode(self, tokens: Sequence[int], position: int) -> None:
        """Run tokens through the model; afterwards the logits of the last one are there to sample from."""
        batch = self._batch
        for start in range(0, len(tokens), BATCH):
            chunk = tokens[start : start + BATCH]
            for row, token in enumerate(chunk):
                batch.token[row] = token
                batch.pos[row] = position + start + row
                batch.n_seq_id[row] = 1
                batch.seq_id[row][0] = 0
                batch.logits[row] = start + row == len(tokens) - 1
            batch.n_tokens = len(chunk)
            status = llama_cpp.llama_decode(self._context, batch)
            if status != 0:
                raise RuntimeError(f"llama_decode returned {status}: {last_error()}")

    def _piece(self, token: int) -> bytes:
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            length = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, room, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            room = -length

    def _token_text(self, token: int) -> str:
        """How a special token is written in a template; empty for a token that the vocabulary lacks."""
        if token < 0:
            return ""
        return str(llama_cpp.llama_vocab_get_text(self._vocabulary, token).decode())


def _chat_template(model: llama_cpp.llama_model_p, config: ModelConfig, file: ModelFile) -> str:
    """The template's Jinja source: the user's file, else the one in the GGUF."""
    if config.chat_template is not None:
        path = Path(config.chat_template).expanduser()
        if not path.is_file():
            raise UserError(f"model.chat_template={config.chat_template} is not a file.")
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"model.chat_template={config.chat_template} is not UTF-8 text ({error.reason}); "
                "give a file with the Jinja source of a chat template."
            ) from error
    template = llama_cpp.llama_model_chat_template(model, None)
    if template is None:
        raise UserError(
            f"{file.path} has no chat template; give one with model.chat_template=FILE, "
            "a file with the Jinja source that the model's publisher names."
        )
    return str(template.decode())


def usable_cores() -> int:
    """Physical cores this process may run on; llama.cpp's threads spin, so more than that slows all of them."""
    allowed = len(os.sched_getaffinity(0))
    return min(psutil.cpu_count(logical=False) or allowed, allowed)
