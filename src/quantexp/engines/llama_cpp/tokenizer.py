"""From a chat to a prompt and its tokens, by the template and the tokenizer in a GGUF."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain, islice

from quantexp.config import ModelConfig
from quantexp.engines.base import Message, Tool
from quantexp.engines.chat_template import ChatTemplate, read_template
from quantexp.engines.llama_cpp.marks import find_token
from quantexp.models import ModelFile
from quantexp.tasks.reasoning import FORMATS, ReasoningFormat, choose_format, get_format
from quantexp.util.errors import UserError
from quantexp.util.llama_library import last_error, llama_cpp, read_piece, tokenize_text, without_weights

_MARKS = (range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE), range(0x30000, 0xE0000))
"""Private characters, then those of planes without letters; one that a chat does not hold stands for the name of a
special token while it is rendered."""

_Written = tuple[frozenset[str], ...]

_of_files: dict[str, _Written] = {}
"""Written forms of tokens, by the sha256 of the file: the jobs of a sweep share files."""


class Wording:
    """The chat template and the tokenizer of a loaded model; of no use once that is freed.

    Raises:
        UserError: the chat template cannot be read.
    """

    def __init__(self, model: llama_cpp.llama_model_p, config: ModelConfig, file: ModelFile) -> None:
        self._vocabulary = llama_cpp.llama_model_get_vocab(model)
        self._path, self._sha256 = file.path, file.sha256
        self._config = config
        self._template = _chat_template(model, config)
        self._chat = None if self._template is None else self._compiled(self._template)
        self._probed: set[tuple[str, ...]] = set()

    @cached_property
    def reasoning(self) -> ReasoningFormat:
        """The format in which the model marks its reasoning: as configured, else by its template and vocabulary."""
        if (given := get_format(self._config.reasoning)) is not None:
            return given
        marks = {mark for each in FORMATS.values() for mark in each.marks[:2]}
        tokens = [mark for mark in marks if find_token(self._vocabulary, mark) is not None]
        return choose_format(self._template or "", tokens)

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

    @property
    def takes_tools(self) -> bool:
        """True if the chat template tells a model of functions.

        Raises:
            UserError: there is no template, or it cannot be read.
        """
        if self._chat is None:
            self._chat = self._compiled(self.template)
        return self._chat.takes_tools

    def render(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        """Apply the chat template.

        Raises:
            UserError: there is no template, or it refuses these messages, or leaves one of them out.
        """
        if self._chat is None:
            self._chat = self._compiled(self.template)
        self._check_holds(self._chat, tuple(message["role"] for message in messages))
        return self._chat.render(messages, tools)

    def _check_holds(self, chat: ChatTemplate, roles: tuple[str, ...]) -> None:
        """Refuse a template that leaves out what is said in a chat of these roles; tried once for each such chat.

        Raises:
            UserError: it does, so that every item would be asked the same, or be shown examples without answers.
        """
        if roles in self._probed:
            return
        if lost := chat.find_lost(roles):
            given = self._config.chat_template
            whose = "The model's chat template" if given is None else f"model.chat_template={given}"
            raise UserError(
                f"{whose} makes prompts without what is said in them (by the {' and the '.join(lost)}), so it is no "
                "template for this chat; give a file with the Jinja source that the model's publisher names with "
                "model.chat_template=FILE."
            )
        self._probed.add(roles)

    def encode_chat(
        self, messages: Sequence[Message], begun: str = "", tools: Sequence[Tool] = ()
    ) -> tuple[str, tuple[int, ...]]:
        """Return the prompt's text, and its tokens, of which only those that the template writes are special.

        A chat that holds the name of a special token, such as <|im_start|>, holds it as text: it is somebody's words,
        which must not begin a turn of their own.

        Args:
            messages: the chat.
            begun: how the answer begins.
            tools: functions that the model may call; their words are somebody's, too.

        Raises:
            UserError: there is no template, or it refuses these messages.
        """
        described = json.dumps(list(tools), ensure_ascii=False)
        contents = [*(message["content"] for message in messages), begun, described]
        held = dict.fromkeys(name for content in contents for name in self._names.findall(content))
        if not held:
            text = self.render(messages, tools) + begun
            return text, self.tokenize(text)
        cut, *free = self._unused(contents, 1 + len(held))
        marks = dict(zip(held, free, strict=True))

        def hidden(content: str) -> str:
            return self._names.sub(lambda found: marks[found[0]], content)

        hidden_tools = json.loads(hidden(described))
        marked = self.render([{**each, "content": hidden(each["content"])} for each in messages], hidden_tools)
        marked += hidden(begun)
        names = {mark: name for name, mark in marks.items()}
        return _shown(marked, names), self._tokens_around(marked, names, cut)

    def _unused(self, contents: Sequence[str], count: int) -> list[str]:
        """Characters that neither the chat nor what the template adds to it holds."""
        used = {*self.template, *self._ends, *"".join(contents)}
        unused = list(islice((chr(code) for code in chain(*_MARKS) if chr(code) not in used), count))
        if len(unused) < count:
            raise UserError(
                "The prompt holds names of special tokens and nearly all characters that Unicode leaves free, so the "
                "names cannot be kept apart from the template's own; leave it out of the data."
            )
        return unused

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Token ids, the names of special tokens parsed; BOS added unless the text begins with it."""
        return tokenize_text(self._vocabulary, text, begin=not self._begins(text), special=True)

    @property
    def bos(self) -> tuple[int, ...]:
        """BOS, if the vocabulary adds it to a text."""
        adds = llama_cpp.llama_vocab_get_add_bos(self._vocabulary)
        return (llama_cpp.llama_vocab_bos(self._vocabulary),) if adds else ()

    def tokenize_plain(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, BOS before it if the vocabulary adds one; names of special tokens are text."""
        return tokenize_text(self._vocabulary, text, begin=True, special=False)

    def text_of(self, tokens: Iterable[int]) -> str:
        """Return the tokens' text; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(read_piece(self._vocabulary, token) for token in tokens).decode("utf-8", "replace")

    def remove_added_bos(self, text: str) -> str:
        """Return the text of which a tokenizer that adds BOS as the model asks for makes the same tokens.

        A server adds BOS to every text, and would do so to one that begins with it.
        """
        bos = self._token_text(llama_cpp.llama_vocab_bos(self._vocabulary))
        rest = text.removeprefix(bos)
        if rest == text:
            return text
        return rest if tokenize_text(self._vocabulary, rest, begin=True, special=True) == self.tokenize(text) else text

    def _tokens_around(self, marked: str, names: Mapping[str, str], cut: str) -> tuple[int, ...]:
        """Token ids of a text in which marks stand for names that are to be text; `cut` is a character not in it.

        The text is taken apart where llama.cpp does so, at each special token, and a piece with a mark is read without
        these. A name that is a token even so is read in two halves.
        """
        halved = {mark: name[0] + cut + name[1:] if name in self._always else name for mark, name in names.items()}
        ends = [place for found in self._names.finditer(marked) for place in found.span()]
        tokens: list[int] = []
        if not self._begins(marked) and llama_cpp.llama_vocab_get_add_bos(self._vocabulary):
            tokens.append(llama_cpp.llama_vocab_bos(self._vocabulary))
        for start, end in zip([0, *ends], [*ends, len(marked)], strict=True):
            piece = marked[start:end]
            is_plain = names.keys().isdisjoint(piece)
            for part in [piece] if is_plain else _shown(piece, halved).split(cut):
                tokens += tokenize_text(self._vocabulary, part, begin=False, special=is_plain)
        return tuple(tokens)

    def _begins(self, text: str) -> bool:
        """Return whether the text begins with BOS."""
        bos = self._token_text(llama_cpp.llama_vocab_bos(self._vocabulary))
        return bool(bos) and text.startswith(bos)

    @cached_property
    def _names(self) -> re.Pattern[str]:
        """Finds how special tokens are written, and others by which the template marks turns."""
        names = sorted({*self._written[0], *self._always}, key=len, reverse=True)
        if not names:
            return re.compile(r"(?!)")
        first = "".join(sorted({name[0] for name in names}))
        # Some vocabularies have thousands: most places in a text are passed over by the first character alone.
        return re.compile(f"(?=[{re.escape(first)}])(?:{'|'.join(map(re.escape, names))})")

    @cached_property
    def _always(self) -> frozenset[str]:
        """Names in the template that llama.cpp takes from any text; some files list the marks of turns among these."""
        template = self._template or ""
        return frozenset(name for name in self._written[1] if re.fullmatch(r"[<\[].+[>\]]", name) and name in template)

    @property
    def _written(self) -> _Written:
        """The written forms of special tokens, and of those that the file's makers have defined."""
        if self._sha256 not in _of_files:  # a look at each of some hundred thousand tokens
            special = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
            defined = llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
            kinds = [
                (kind, self._token_text(token))
                for token in range(llama_cpp.llama_vocab_n_tokens(self._vocabulary))
                if (kind := llama_cpp.llama_vocab_get_attr(self._vocabulary, token) & (special | defined))
            ]
            _of_files[self._sha256] = tuple(
                frozenset(name for kind, name in kinds if kind & wanted and name) for wanted in (special, defined)
            )
        return _of_files[self._sha256]

    def _compiled(self, template: str) -> ChatTemplate:
        return ChatTemplate(template, *self._ends, self._config.template)

    @cached_property
    def _ends(self) -> tuple[str, str]:
        """Written forms of BOS and EOS."""
        bos, eos = llama_cpp.llama_vocab_bos(self._vocabulary), llama_cpp.llama_vocab_eos(self._vocabulary)
        return self._token_text(bos), self._token_text(eos)

    def _token_text(self, token: int) -> str:
        """Return a special token as it is written in a template; empty for a token that the vocabulary lacks."""
        if token < 0:
            return ""
        return str(llama_cpp.llama_vocab_get_text(self._vocabulary, token).decode("utf-8", "replace"))


def _shown(marked: str, names: Mapping[str, str]) -> str:
    """Return the text with the names in place of their marks."""
    return marked.translate({ord(mark): name for mark, name in names.items()})


@contextmanager
def open_tokenizer(file: ModelFile, config: ModelConfig) -> Iterator[Wording]:
    """Yield the template and the tokenizer of a file whose weights stay where they are.

    Raises:
        UserError: the file cannot be read, or has no usable chat template.
    """
    with without_weights(file.path) as model:
        if model is None:
            raise UserError(f"llama.cpp could not read {file.path}: {last_error()}.")
        yield Wording(model, config, file)


def _chat_template(model: llama_cpp.llama_model_p, config: ModelConfig) -> str | None:
    """Return the template's Jinja source: the user's file, else the GGUF's; None if that has none, or an empty one."""
    if config.chat_template is not None:
        return read_template(config.chat_template)
    template = llama_cpp.llama_model_chat_template(model, None)
    source = "" if template is None else str(template.decode("utf-8", "replace"))
    return source if source.strip() else None
