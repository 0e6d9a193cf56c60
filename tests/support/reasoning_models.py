"""Models that mark their reasoning: the embedded one under other names of tokens, with another chat template."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
from tests.support.gguf_files import open_gguf, read_fields

USER_DEFINED, CONTROL = int(gguf.TokenType.USER_DEFINED), int(gguf.TokenType.CONTROL)

CHAT = """\
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}
{{- '<|im_start|>assistant\n' }}"""
"""Turns as the embedded model knows them, up to where its answer begins."""

THINKING = (
    CHAT
    + """
{%- if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}
{%- elif opened is defined and opened %}{{ '<think>\nTo find the answer we see that ' }}{% endif %}"""
)
"""A template that closes reasoning before it begins (`enable_thinking`), opens it (`opened`), or leaves it to the
model."""

HARMONY = CHAT + "{{ '<|start|>assistant<|channel|>analysis<|message|>To find the answer we see that ' }}"
"""One that opens the channel in which gpt-oss reasons."""

COMMA = 28
"""The embedded model's token for a comma, which it writes sooner or later whatever it is asked."""

THINK_NAMES = {3: ("<think>", USER_DEFINED), COMMA: ("</think>", USER_DEFINED)}
"""Of a model that ends its reasoning where it would write a comma."""

HARMONY_NAMES = {
    number: (name, CONTROL)
    for number, name in enumerate(("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|return|>", "<|call|>"), 3)
}
"""Of gpt-oss."""


def write_renamed(source: str, path: Path, names: Mapping[int, tuple[str, int]], template: str) -> Path:
    """Write a copy of a GGUF in which tokens have other names.

    Args:
        source: the file.
        path: of the copy.
        names: of tokens, by their number: the name and the kind (`USER_DEFINED` is text, `CONTROL` is left out of it).
        template: the chat template's source.
    """
    fields = {field.name: field for field in read_fields(source)}
    writer = gguf.GGUFWriter(path, fields.pop("general.architecture").content)
    for name, field in fields.items():
        writer.add_key_value(name, _renamed(name, field.content, names, template), field.kind, field.inner)
    for tensor in open_gguf(source).tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _renamed(field: str, value: Any, names: Mapping[int, tuple[str, int]], template: str) -> Any:
    if field == "tokenizer.chat_template":
        return template
    if field == "tokenizer.ggml.tokens":
        return [names[token][0] if token in names else name for token, name in enumerate(value)]
    if field == "tokenizer.ggml.token_type":
        return [names[token][1] if token in names else kind for token, kind in enumerate(value)]
    return value
