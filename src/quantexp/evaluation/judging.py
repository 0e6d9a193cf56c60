"""The judge: a model that answers a rubric's questions about two texts, measured before its verdicts count.

Each question is put in both orders of its texts, and so often in each as there are votes; the majority decides. All
replies are kept in the completion store: a question is put to a judge once.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from quantexp.config import SamplingConfig, TaskConfig
from quantexp.config.grading import JudgeConfig
from quantexp.engines import Completion, Prompt
from quantexp.engines.base import Message
from quantexp.evaluation.answers import AnswerReader
from quantexp.evaluation.generation import complete_missing
from quantexp.evaluation.judge_engine import JudgeModel
from quantexp.evaluation.prompts import find_common, find_start, make_decoding
from quantexp.stats import Agreement, agreement
from quantexp.store import CompletionStore
from quantexp.tasks.graders.calibration import hash_pairs, load_pairs
from quantexp.tasks.graders.judged import TIE, UNREADABLE, JudgeVerdict, Pair
from quantexp.tasks.graders.rubrics import Rubric
from quantexp.tasks.requests import open_chat, write_user
from quantexp.tracking.tags import GRADING
from quantexp.util.errors import UserError
from quantexp.util.progress import bar

log = logging.getLogger(__name__)

Replies = tuple[tuple[bool | None, ...], tuple[bool | None, ...]]
"""The votes on a question, in the order of its texts and in the other; None for one that cannot be read."""


@dataclass(frozen=True, slots=True)
class JudgeCalibration:
    """Measurement of a judge on a rubric's bundled pairs.

    Attributes:
        rubric: id of the rubric.
        pairs: sha256 of the pairs.
        agreement: of its verdicts with the labels; one without a verdict never agrees.
        swapped: share of pairs on which the votes in one order of the texts say otherwise than those in the other.
        again: share of pairs on which another round of votes says otherwise; 0 where the same reply is certain.
        ties: share of pairs on which the votes are a tie.
        unreadable: share of replies that cannot be read.
    """

    rubric: str
    pairs: str
    agreement: Agreement
    swapped: float
    again: float
    ties: float
    unreadable: float

    @property
    def words(self) -> str:
        """The measurement in a sentence without its end."""
        found = self.agreement
        return (
            f"{self.rubric}: agrees with {100 * found.accuracy:.0f}% of {found.n} labels, kappa "
            f"{found.kappa_text}; noise floor: {100 * self.swapped:.1f}% of its verdicts "
            f"change with the order of the texts, {100 * self.again:.1f}% if asked again; {100 * self.ties:.1f}% ties, "
            f"{100 * self.unreadable:.1f}% of its replies unreadable"
        )


class EngineJudge:
    """A judge that any engine runs."""

    def __init__(self, config: JudgeConfig, model: JudgeModel, known: CompletionStore, *, shows: bool = True) -> None:
        """Take a judge's model.

        Args:
            config: how it votes.
            model: opened.
            known: the completions that exist already; its replies are added one by one.
            shows: whether it may show a bar of its own.
        """
        self._config, self._model, self._known, self._shows = config, model, known, shows
        self._reader = AnswerReader(model.engine.reasoning)
        sampling = SamplingConfig(temperature=config.temperature, seed=config.seed)
        asked = TaskConfig("judge", max_tokens=config.max_tokens, sampling=sampling)
        self._decoding = make_decoding(asked, model.engine, ())
        self._opening = open_chat(model.system)
        self._start = find_start(model.engine, self._opening)
        self._calibrations: dict[str, JudgeCalibration] = {}
        self._shared: dict[tuple[str, bool], tuple[int, ...]] = {}

    @property
    def identity(self) -> Mapping[str, str]:
        """All that its verdicts depend on, for the identity of a run."""
        votes = f"{self._config.votes} votes in each order, temperature {self._config.temperature:g}"
        if self._config.temperature > 0:
            votes += f", seed {self._config.seed}"
        return {"judge": f"{self._model.name} ({self._model.identity}), {votes}"}

    @property
    def facts(self) -> Mapping[str, str]:
        """The identity, the family if it is that of the model under test, and what was measured, as tags of a run."""
        measured = {f"{GRADING}judge.{name}": each.words for name, each in self._calibrations.items()}
        family = {f"{GRADING}judge.family": self._model.family} if self._model.family else {}
        return {f"{GRADING}judge": self.identity["judge"], **family, **measured}

    def calibrate(self, rubric: Rubric) -> None:
        """Measure the judge on the rubric's bundled pairs, unless that has been done.

        Raises:
            UserError: its agreement with their labels is below `judge.agreement`.
        """
        if rubric.id not in self._calibrations:
            self._calibrations[rubric.id] = self._measure(rubric)
            log.info("judge %s: %s", self._model.name, self._calibrations[rubric.id].words)

    def _measure(self, rubric: Rubric) -> JudgeCalibration:
        """Measure the judge on the rubric's bundled pairs; it is asked again only if it is not refused."""
        pairs = load_pairs(rubric.calibration)
        texts = [(pair.first, pair.second) for pair in pairs]
        replies = self._collect(rubric, texts, "its calibration")
        verdicts = [_decide(each) for each in replies]
        votes = [vote for each in replies for order in each for vote in order]
        found = agreement([verdict.label for verdict in verdicts], [pair.label for pair in pairs])
        if not found.kappa >= self._config.agreement:
            raise UserError(
                f"The judge {self._model.name} agrees too little with the {found.n} bundled pairs of "
                f"{rubric.calibration} for its verdicts to count: Cohen's kappa is {found.kappa_text}, "
                f"{100 * votes.count(None) / len(votes):.0f}% of its "
                f"replies cannot be read, and judge.agreement={self._config.agreement:g} is the least; choose another "
                "judge."
            )
        second = verdicts
        if self._config.temperature > 0 or not self._model.is_exact:
            second = [_decide(each) for each in self._collect(rubric, texts, "its calibration, again", again=True)]
        n = len(pairs)
        return JudgeCalibration(
            rubric.id,
            hash_pairs(pairs),
            found,
            swapped=sum(_decide((one, ())).label != _decide(((), other)).label for one, other in replies) / n,
            again=sum(one.label != other.label for one, other in zip(verdicts, second, strict=True)) / n,
            ties=sum(verdict.problem == TIE for verdict in verdicts) / n,
            unreadable=votes.count(None) / len(votes),
        )

    def decide(self, rubric: Rubric, pairs: Sequence[Pair]) -> list[JudgeVerdict]:
        """Answer the rubric's question about each pair of texts, in order."""
        return [_decide(replies) for replies in self._collect(rubric, pairs, "the answers")]

    def _collect(self, rubric: Rubric, pairs: Sequence[Pair], what: str, *, again: bool = False) -> list[Replies]:
        """Return the votes on each pair."""
        engine, votes = self._model.engine, self._config.votes
        first = votes if again and self._config.temperature > 0 else 0
        prompts = [
            replace(self._prompt(rubric, pair, is_swapped, f"{number}"), sample=sample)
            for number, pair in enumerate(pairs)
            for is_swapped in (False, True)
            for sample in range(first, first + votes)
        ]
        key_of = partial(self._key, again=again and self._config.temperature == 0)
        about = {"model": self._model.name, "quant": "judge", "task": rubric.id}
        with bar(f"judge {self._model.name}, {what}", len(prompts), shows=self._shows) as advance:
            found = complete_missing(
                prompts, key_of, lambda missing: engine.complete(missing, self._decoding), self._known, about,
                advance=advance,
            )  # fmt: skip
        read = [self._read(rubric, *answered) for answered in zip(prompts, found.completions, strict=True)]
        starts = range(0, len(read), 2 * votes)
        return [(tuple(read[at : at + votes]), tuple(read[at + votes : at + 2 * votes])) for at in starts]

    def _key(self, prompt: Prompt, *, again: bool) -> bytes:
        """Return the key of a reply; of one that is asked for a second time, another one."""
        key = self._model.engine.key(prompt, self._decoding)
        return hashlib.sha256(key + b"again").digest() if again else key

    def _prompt(self, rubric: Rubric, pair: Pair, is_swapped: bool, number: str) -> Prompt:
        engine = self._model.engine
        messages = self._messages(rubric.write(*pair, is_swapped=is_swapped))
        text, tokens = engine.encode_chat(messages)
        kind = (rubric.id, is_swapped)
        if kind not in self._shared:
            probes = [self._messages(rubric.write(probe, probe, is_swapped=is_swapped)) for probe in ("a", "1")]
            self._shared[kind] = find_common(*(engine.encode_chat(probe)[1] for probe in probes))
        shared = len(find_common(self._shared[kind], tokens[:-1]))
        order = "swapped" if is_swapped else "as given"
        return Prompt(f"{number} {order}", text, tokens, shared, messages=messages, start=self._start)

    def _messages(self, content: str) -> tuple[Message, ...]:
        return (*self._opening, write_user(content))

    def _read(self, rubric: Rubric, prompt: Prompt, completion: Completion) -> bool | None:
        output = self._model.engine.read_output(prompt, completion)
        answer = self._reader.read(output, completion.finish_reason == "length")
        return None if answer.ended_in_reasoning else rubric.read(answer.text)


def _decide(replies: Replies) -> JudgeVerdict:
    """Return what most of the readable votes say."""
    votes = [vote for order in replies for vote in order if vote is not None]
    if not votes:
        return JudgeVerdict(None, UNREADABLE)
    if 2 * sum(votes) == len(votes):
        return JudgeVerdict(None, TIE)
    return JudgeVerdict(2 * sum(votes) > len(votes))
