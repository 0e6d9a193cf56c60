"""Small models of several architectures: random weights, and the embedded model's real tokenizer and chat template."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGUFValueType
from numpy.typing import NDArray
from tests.support.gguf_files import read_fields

WIDTH, HEADS, KV_HEADS, HEAD, WIDE, LAYERS = 64, 4, 2, 16, 128, 4

Shapes = Mapping[str, tuple[int, ...]]


def _attention(layer: int, *, norms: bool = False) -> dict[str, tuple[int, ...]]:
    block = f"blk.{layer}."
    found: dict[str, tuple[int, ...]] = {
        f"{block}attn_norm.weight": (WIDTH,),
        f"{block}attn_q.weight": (HEADS * HEAD, WIDTH),
        f"{block}attn_k.weight": (KV_HEADS * HEAD, WIDTH),
        f"{block}attn_v.weight": (KV_HEADS * HEAD, WIDTH),
        f"{block}attn_output.weight": (WIDTH, HEADS * HEAD),
    }
    if norms:
        found |= {f"{block}attn_q_norm.weight": (HEAD,), f"{block}attn_k_norm.weight": (HEAD,)}
    return found


def _feed_forward(layer: int) -> dict[str, tuple[int, ...]]:
    block = f"blk.{layer}."
    return {
        f"{block}ffn_norm.weight": (WIDTH,),
        f"{block}ffn_gate.weight": (WIDE, WIDTH),
        f"{block}ffn_up.weight": (WIDE, WIDTH),
        f"{block}ffn_down.weight": (WIDTH, WIDE),
    }


def _experts(layer: int, experts: int) -> dict[str, tuple[int, ...]]:
    block = f"blk.{layer}."
    return {
        f"{block}ffn_norm.weight": (WIDTH,),
        f"{block}ffn_gate_inp.weight": (experts, WIDTH),
        f"{block}ffn_gate_exps.weight": (experts, WIDE, WIDTH),
        f"{block}ffn_up_exps.weight": (experts, WIDE, WIDTH),
        f"{block}ffn_down_exps.weight": (experts, WIDTH, WIDE),
    }


INNER, STATE, CONV, RANK = 2 * WIDTH, 8, 4, 8
"""Of a Mamba layer: its width, the size of its state, its convolution, the rank of its step."""


def _mamba(layer: int) -> dict[str, tuple[int, ...]]:
    block = f"blk.{layer}."
    return {
        f"{block}attn_norm.weight": (WIDTH,),
        f"{block}ssm_in.weight": (2 * INNER, WIDTH),
        f"{block}ssm_conv1d.weight": (INNER, CONV),
        f"{block}ssm_conv1d.bias": (INNER,),
        f"{block}ssm_x.weight": (RANK + 2 * STATE, INNER),
        f"{block}ssm_dt.weight": (INNER, RANK),
        f"{block}ssm_dt.bias": (INNER,),
        f"{block}ssm_a": (INNER, STATE),
        f"{block}ssm_d": (INNER,),
        f"{block}ssm_out.weight": (WIDTH, INNER),
    }


def _short_convolution(layer: int) -> dict[str, tuple[int, ...]]:
    block = f"blk.{layer}."
    return {
        f"{block}attn_norm.weight": (WIDTH,),
        f"{block}shortconv.conv.weight": (WIDTH, 3),
        f"{block}shortconv.in_proj.weight": (3 * WIDTH, WIDTH),
        f"{block}shortconv.out_proj.weight": (WIDTH, WIDTH),
    }


_SIZES: Mapping[str, object] = {
    "block_count": LAYERS,
    "context_length": 2048,
    "embedding_length": WIDTH,
    "feed_forward_length": WIDE,
    "attention.head_count": HEADS,
    "attention.head_count_kv": KV_HEADS,
    "attention.key_length": HEAD,
    "attention.value_length": HEAD,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "rope.freq_base": 1e4,
}
_MAMBA_SIZES: Mapping[str, object] = {
    "ssm.conv_kernel": CONV,
    "ssm.inner_size": INNER,
    "ssm.state_size": STATE,
    "ssm.time_step_rank": RANK,
    "attention.head_count": 0,
    "attention.head_count_kv": 0,
    "feed_forward_length": 0,
}


def _each(*makers: Callable[[int], dict[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
    return {name: shape for layer in range(LAYERS) for make in makers for name, shape in make(layer).items()}


def _gemma() -> dict[str, tuple[int, ...]]:
    found = _each(lambda layer: _attention(layer, norms=True), _feed_forward)
    for layer in range(LAYERS):
        found |= {f"blk.{layer}.{name}.weight": (WIDTH,) for name in ("post_attention_norm", "post_ffw_norm")}
    return found


def _hybrid() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for layer in range(LAYERS):
        found |= _attention(layer, norms=True) if layer % 2 else _short_convolution(layer)
        found |= _feed_forward(layer)
    return found


ARCHITECTURES: Mapping[str, tuple[Mapping[str, object], Shapes]] = {
    "llama": (_SIZES, _each(_attention, _feed_forward)),
    "qwen3moe": (
        {**_SIZES, "expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": WIDE},
        _each(lambda layer: _attention(layer, norms=True), lambda layer: _experts(layer, 4)),
    ),
    "gemma3": ({**_SIZES, "attention.sliding_window": 32}, _gemma()),
    "mamba": ({**_SIZES, **_MAMBA_SIZES}, _each(_mamba)),
    "lfm2": (
        {**_SIZES, "shortconv.l_cache": 3, "attention.head_count_kv": [0, KV_HEADS] * (LAYERS // 2)},
        _hybrid(),
    ),
}
"""Of each its sizes and the shapes of its layers' tensors: attention alone, experts, sliding windows, a recurrent
model, and a hybrid of attention and convolutions with a state."""


_PACKED: dict[int, tuple[Sequence[object], bytes]] = {}
"""Long lists, and how a file holds them, by their identity, which is theirs as long as they are kept here."""


class _Writer(gguf.GGUFWriter):
    """A writer that packs a vocabulary once."""

    def _pack_val(
        self, val: Any, vtype: GGUFValueType, add_vtype: bool, sub_type: GGUFValueType | None = None
    ) -> bytes:
        if vtype is not GGUFValueType.ARRAY or len(val) < 1000:
            return super()._pack_val(val, vtype, add_vtype, sub_type)
        if id(val) not in _PACKED:
            _PACKED[id(val)] = val, bytes(super()._pack_val(val, vtype, add_vtype, sub_type))
        return _PACKED[id(val)][1]


def write_architecture(name: str, tokenizer: str, path: Path, head: int = HEAD) -> Path:
    """Write a model in F32, with weights that make its answers neither constant nor noise.

    Args:
        name: one of `ARCHITECTURES`.
        tokenizer: a GGUF with the vocabulary and the chat template.
        path: of the file.
        head: the size of a head; any but the usual one for a model with plain attention only.
    """
    sizes, shapes = ARCHITECTURES[name]
    if head != HEAD:
        sizes = {**sizes, "attention.key_length": head, "attention.value_length": head}
        wider = {"q": (HEADS * head, WIDTH), "output": (WIDTH, HEADS * head)} | dict.fromkeys(
            "kv", (KV_HEADS * head, WIDTH)
        )
        shapes = {each: wider.get(each.removesuffix(".weight").partition(".attn_")[2], shapes[each]) for each in shapes}
    writer = _Writer(path, name)
    for key, value in sizes.items():
        if isinstance(value, list):
            writer.add_array(f"{name}.{key}", value)
        elif isinstance(value, float):
            writer.add_float32(f"{name}.{key}", value)
        else:
            assert isinstance(value, int)
            writer.add_uint32(f"{name}.{key}", value)
    writer.add_file_type(0)
    words = 0
    for field in read_fields(tokenizer):
        if field.name.startswith("tokenizer."):
            words = len(field.content) if field.name == "tokenizer.ggml.tokens" else words
            writer.add_key_value(field.name, field.content, field.kind, field.inner)
    writer.add_uint32(f"{name}.vocab_size", words)
    generator = np.random.default_rng(7)
    final = "token_embd_norm" if name == "lfm2" else "output_norm"
    for tensor, shape in {"token_embd.weight": (words, WIDTH), f"{final}.weight": (WIDTH,), **shapes}.items():
        values = _weights(tensor, shape, generator)
        # Gemma's embeddings are scaled by the root of their width; undone here, or the model would repeat each token.
        writer.add_tensor(tensor, values / 8 if name == "gemma3" and tensor == "token_embd.weight" else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _weights(name: str, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
    if name.endswith("ssm_a"):
        return -np.exp(generator.standard_normal(shape)).astype(np.float32)
    values: NDArray[np.float32] = generator.standard_normal(shape).astype(np.float32)
    if "norm" in name:
        return np.float32(1) + values / np.float32(10)
    return values if name.startswith("token_embd") else values * np.float32(2 / shape[-1] ** 0.5)
