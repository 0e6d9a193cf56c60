"""This engine as a model of lm-evaluation-harness: it tokenizes, asks and grades by its own means."""

from typing import Any

from lm_eval.api.model import TemplateLM

from quantexp.engines import Decoding, Prompt
from quantexp.engines.base import Continuation
from quantexp.engines.llama_cpp.engine import LlamaCpp


class HarnessModel(TemplateLM):  # type: ignore[misc]
    """A loaded model, of which the harness asks tokens, log-likelihoods and answers."""

    tokenizer_name = "quantexp"

    def __init__(self, engine: LlamaCpp, chat: bool) -> None:
        super().__init__()
        self.engine, self.chat = engine, chat

    @property
    def eot_token_id(self) -> int:
        return self.engine.beginning[0]

    def tok_encode(self, string: str, **_: Any) -> list[int]:
        return list(self.engine.tokenize(string) if self.chat else self.engine.tokenize_plain(string))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        if add_generation_prompt:
            return self.engine.render(chat_history)
        return self.engine.render(chat_history[:-1], chat_history[-1]["content"])

    def _loglikelihood_tokens(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
        prompts = [
            Continuation(str(place), "", tuple(context), 0, continuation=tuple(continuation))
            for place, (_, context, continuation) in enumerate(requests)
        ]
        scored = {each.item_id: completion for each, completion in self.engine.score(prompts)}
        return [(sum(scored[each.item_id].logprobs), bool(scored[each.item_id].likeliest)) for each in prompts]

    def generate_until(self, requests: list[Any], **further: Any) -> list[str]:
        answers = []
        for request in requests:
            context, arguments = request.args
            decoding = Decoding(arguments["max_gen_toks"], tuple(arguments["until"]))
            asked = Prompt("one", context, tuple(self.tok_encode(context)), 0)
            [(_, completion)] = self.engine.complete([asked], decoding)
            answers.append(completion.text)
        return answers

    def loglikelihood_rolling(self, requests: list[Any], **_: Any) -> list[float]:
        raise NotImplementedError
