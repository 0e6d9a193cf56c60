"""The context of an engine's lanes: no longer than what is asked needs."""

from quantexp.config import EngineConfig
from quantexp.engines.llama_cpp.kv_cache import KVCache
from quantexp.engines.llama_cpp.lanes import BATCH, count_rows
from quantexp.engines.llama_cpp.memory import choose_lanes, fit_length, lanes_that_fit, log_lowered, reduce_lanes
from quantexp.models import ModelFile
from quantexp.util.errors import UserError
from quantexp.util.llama_library import interrupts_later, last_error, llama_cpp


class LaneContext:
    """A context with a sequence for each lane, made when it is first needed, and anew when a longer one is.

    An answer is the same in a longer context: attention looks at the cells that are in use, in steps of 256.

    Attributes:
        lanes: how many answers are written at once; before there is a context, those that the whole one has room for.
        length: tokens that a lane has room for; 0 before there is a context.
    """

    def __init__(
        self, model: llama_cpp.llama_model_p, file: ModelFile, config: EngineConfig, cache: KVCache, threads: int
    ) -> None:
        """Settle if there is to be one lane or several.

        Raises:
            UserError: memory does not hold the whole context even once, or the model cannot have such a cache.
        """
        cache.check(model)
        self._model, self._file, self._config, self._cache, self._threads = model, file, config, cache, threads
        self.lanes = self._fitting = lanes_that_fit(model, config, file.bytes)
        self.length = 0
        self._context: llama_cpp.llama_context_p | None = None

    def open(self, tokens: int) -> llama_cpp.llama_context_p:
        """Return a context with room for so many tokens in each lane: the one that is there, if it is long enough.

        Raises:
            UserError: llama.cpp cannot make it.
        """
        if self._context is None or self.length < tokens:
            self.close()
            length = fit_length(self._model, tokens, self._config.context)
            lanes = choose_lanes(self._model, self._config, self._file.bytes, self._fitting, length)
            self.lanes, self._context = self._opened(lanes, length)
            self.length = length
        return self._context

    def _opened(self, lanes: int, length: int) -> tuple[int, llama_cpp.llama_context_p]:
        """Return a context with as many lanes as llama.cpp finds memory for, and their number."""
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_batch = parameters.n_ubatch = BATCH
        parameters.n_threads = parameters.n_threads_batch = self._threads
        parameters.kv_unified = False
        self._cache.apply(parameters)
        while True:
            rows = count_rows(lanes)
            parameters.n_ctx = length * rows
            parameters.n_seq_max = parameters.n_outputs_max = rows
            with interrupts_later():
                context = llama_cpp.llama_init_from_model(self._model, parameters)
            if context:
                return lanes, context
            fewer = reduce_lanes(lanes)
            if fewer is None or fewer == 1:
                raise UserError(self._refusal(lanes, length))
            log_lowered(lanes, fewer, f"llama.cpp found no memory for {lanes} ({last_error()})")
            lanes = fewer

    def _refusal(self, lanes: int, length: int) -> str:
        """Say that there is no context, and what to do."""
        ways = ["lower engine.context"]
        if lanes > 1:
            ways.append("set engine.lanes=1")
        if self._cache.settings:
            ways.append(f"leave {' and '.join(f'engine.{key}' for key in self._cache.settings)} out")
        return (
            f"llama.cpp could not make a context of {length} tokens for {self._file.path}: {last_error()}; "
            f"{', or '.join(ways)}."
        )

    def close(self) -> None:
        """Free the context; more than once does no harm."""
        if self._context is not None:
            llama_cpp.llama_free(self._context)
            self._context, self.length = None, 0
