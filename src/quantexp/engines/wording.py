"""From a chat to a prompt and its tokens, by the template and the tokenizer in a GGUF."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jinja2

from quantexp.config import ModelConfig
from quantexp.engines.base import Message
from quantexp.errors import UserError
from quantexp.llama import ChatFormatter, last_error, llama_cpp, tokens_of, without_weights
from quantexp.models import ModelFile


class Wording:
    """The chat template and the tokenizer of a loaded model; of no use once that is freed.

    Raises:
        UserError: the chat template cannot be read.
    """

    def __init__(self, model: llama_cpp.llama_model_p, config: ModelConfig, file: ModelFile) -> None:
        self._vocabulary = llama_cpp.llama_model_get_vocab(model)
        self._path = file.path
        self._template = _chat_template(model, config)
        self._formatter = None if self._template is None else self._compiled(self._template)

    @property
    def template(self) -> str:
        """The Jinja source in use.

        Raises:
            UserError: there is none, as in a base model's file.
        """
        if self._template is None:
            raise UserError(
                f"{self._path} has no chat template; give one with model.chat_template=FILE, "
                "a file with the Jinja source that the model's publisher names."
            )
        return self._template

    def render(self, messages: Sequence[Message]) -> str:
        """Apply the chat template.

        Raises:
            UserError: there is no template, or it refuses these messages.
        """
        if self._formatter is None:
            self._formatter = self._compiled(self.template)
        try:
            return str(self._formatter(messages=list(messages)).prompt)
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise UserError(
                f"The model's chat template refuses the prompt ({error}); give another with model.chat_template=FILE."
            ) from error

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Token ids, the template's special tokens parsed; BOS added unless the text begins with it."""
        bos = self._token_text(llama_cpp.llama_vocab_bos(self._vocabulary))
        return tokens_of(self._vocabulary, text, begin=not (bos and text.startswith(bos)), special=True)

    def as_sent(self, text: str) -> str:
        """The text of which a tokenizer that adds BOS as the model asks for makes the same tokens.

        A server adds BOS to every text, and would do so to one that begins with it.
        """
        bos = self._token_text(llama_cpp.llama_vocab_bos(self._vocabulary))
        rest = text.removeprefix(bos)
        if rest == text:
            return text
        return rest if tokens_of(self._vocabulary, rest, begin=True, special=True) == self.tokenize(text) else text

    def _compiled(self, template: str) -> ChatFormatter:
        try:
            return ChatFormatter(
                template=template,
                bos_token=self._token_text(llama_cpp.llama_vocab_bos(self._vocabulary)),
                eos_token=self._token_text(llama_cpp.llama_vocab_eos(self._vocabulary)),
            )
        except jinja2.TemplateError as error:
            raise UserError(
                f"The model's chat template is not valid Jinja ({error}); give another with model.chat_template=FILE."
            ) from error

    def _token_text(self, token: int) -> str:
        """How a special token is written in a template; empty for a token that the vocabulary lacks."""
        if token < 0:
            return ""
        return str(llama_cpp.llama_vocab_get_text(self._vocabulary, token).decode())


@contextmanager
def wording_of(file: ModelFile, config: ModelConfig) -> Iterator[Wording]:
    """The template and the tokenizer of a file whose weights stay where they are.

    Raises:
        UserError: the file cannot be read, or has no usable chat template.
    """
    with without_weights(file.path) as model:
        if model is None:
            raise UserError(f"llama.cpp could not read {file.path}: {last_error()}.")
        yield Wording(model, config, file)


def _chat_template(model: llama_cpp.llama_model_p, config: ModelConfig) -> str | None:
    """The template's Jinja source: the user's file, else the one in the GGUF; None if it has none."""
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
    return None if template is None else str(template.decode())
