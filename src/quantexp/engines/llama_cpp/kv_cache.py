"""The KV cache: the types of its numbers, the attention that reads it, and the bytes that it takes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from quantexp.config import EngineConfig
from quantexp.config.choices import UNQUANTIZED, FlashAttention, KVType
from quantexp.models.recipe_parameters import list_tensor_types, measure_block
from quantexp.util.errors import UserError
from quantexp.util.llama_library import llama_cpp, number_in, read_metadata

_ATTENTION: Mapping[FlashAttention, int] = {
    FlashAttention.auto: llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO,
    FlashAttention.on: llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    FlashAttention.off: llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}


@dataclass(frozen=True, slots=True)
class KVCache:
    """The way in which a context keeps keys and values, and attends to them; by default as llama.cpp does.

    Attributes:
        key: type of the keys.
        value: type of the values.
        attention: whether flash attention computes.
    """

    key: KVType = KVType.f16
    value: KVType = KVType.f16
    attention: FlashAttention = FlashAttention.auto

    @property
    def settings(self) -> dict[str, str]:
        """What differs from the default, by the keys of the configuration."""
        given = {"kv_key": self.key, "kv_value": self.value, "flash_attention": self.attention}
        usual = {"kv_key": KVType.f16, "kv_value": KVType.f16, "flash_attention": FlashAttention.auto}
        return {key: value.value for key, value in given.items() if value is not usual[key]}

    def apply(self, parameters: llama_cpp.llama_context_params) -> None:
        """Write the types into the parameters of a context."""
        parameters.type_k, parameters.type_v = _number_of(self.key), _number_of(self.value)
        parameters.flash_attn_type = _ATTENTION[self.attention]

    def check(self, model: llama_cpp.llama_model_p) -> None:
        """Refuse types that do not go with a model: llama.cpp would end the process, or not say which key is meant.

        Raises:
            UserError: a head's size is no multiple of a type's blocks.
        """
        for name, kind, sizes in (
            ("key", self.key, head_sizes(model, "key")),
            ("value", self.value, head_sizes(model, "value")),
        ):
            block = measure_block(_number_of(kind)).numbers
            if odd := [size for size in sizes if size % block]:
                raise UserError(
                    f"engine.kv_{name}={kind.value} holds {block} numbers a block, and this model's heads have "
                    f"{odd[0]}: set engine.kv_{name} to f16, bf16 or f32."
                )

    def vary(self) -> "KVCache":
        """Return the same types with the other attention, if there is a choice."""
        if self.value not in UNQUANTIZED:
            return self
        other = FlashAttention.on if self.attention is FlashAttention.off else FlashAttention.off
        return replace(self, attention=other)

    def compare(self, other: "KVCache") -> str:
        """Name the difference to another attention, to go on with a list of differences."""
        if self.attention is other.attention:
            return f"; values in {self.value.value} leave no choice but flash attention"
        return ", no flash attention" if self.attention is FlashAttention.off else ", flash attention"

    def bytes_per_token(self, model: llama_cpp.llama_model_p) -> float:
        """Bytes that a token's keys and values take in all layers.

        An estimate from above where layers differ or keep no cache.
        """
        # From the metadata: a model of which only these were read cannot be asked otherwise.
        architecture = read_metadata(model, "general.architecture")
        layers = number_in(model, f"{architecture}.block_count") or 0
        heads = number_in(model, f"{architecture}.attention.head_count") or 0
        heads = number_in(model, f"{architecture}.attention.head_count_kv") or heads
        blocks = {"key": measure_block(_number_of(self.key)), "value": measure_block(_number_of(self.value))}
        head = sum(max(head_sizes(model, part)) * block.bytes / block.numbers for part, block in blocks.items())
        return layers * heads * head


def _number_of(kind: KVType) -> int:
    """Return ggml's number of a type."""
    return list_tensor_types()[kind.value.upper()]


def read_kv_cache(engine: EngineConfig) -> KVCache:
    """Return the cache that the configuration asks for."""
    return KVCache(engine.kv_key, engine.kv_value, engine.flash_attention)


def head_sizes(model: llama_cpp.llama_model_p, part: str) -> list[int]:
    """List the sizes of a model's heads for its keys or values; apart for layers with sliding windows."""
    architecture = read_metadata(model, "general.architecture")
    heads = number_in(model, f"{architecture}.attention.head_count") or 1
    usual = (number_in(model, f"{architecture}.embedding_length") or 0) // heads
    named = [number_in(model, f"{architecture}.attention.{part}_length{window}") for window in ("", "_swa")]
    return [named[0] or usual, *([named[1]] if named[1] else [])]
