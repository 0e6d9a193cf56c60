"""The contract of the engine: the same file, prompt and settings give the same tokens and log-probabilities.

To the last bit, and whatever is generated beside them.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantexp import models
from quantexp.config import DataConfig, EngineConfig, ModelConfig, QuantConfig
from quantexp.engines import Decoding, Prompt
from quantexp.engines.batch_invariance import verify
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.llama_cpp.lanes import BATCH, count_rows, pieces, split
from quantexp.models import ModelFile
from quantexp.tasks import get_task
from quantexp.tasks.data import load

LONGEST = 8
"""Tokens in an answer: enough for a difference in rounding to show in the log-probabilities at least."""

EXAMPLES = int(os.environ.get("QUANTEXP_EXACTNESS_EXAMPLES", "3"))
"""Of the property test, for each quant. A few show what is broken; `make exactness` runs many, with longer prompts."""

LANES = (2, 5, 8, 12, 16)
SHARED = 120
LENGTHS = (5, 17, 64, 122, 165, 257, *((BATCH + 1, 1025, 1500) if EXAMPLES > 3 else (BATCH + 1,)))

WAYS = {
    "greedy": Decoding(LONGEST),
    "greedy, penalties": Decoding(
        LONGEST, presence_penalty=0.5, frequency_penalty=0.3, repetition_penalty=1.2, penalty_last_n=20
    ),
    "drawn": Decoding(
        LONGEST, temperature=1.0, top_k=20, top_p=0.95, min_p=0.01, presence_penalty=1.5, penalty_last_n=-1, seed=3
    ),
}
"""How answers are chosen."""

Answer = tuple[tuple[int, ...], tuple[float, ...]]


def asked(engine: LlamaCpp) -> list[Prompt]:
    """Prompts of every length; some begin alike and share that, one of them one token less of it."""
    items = load(DataConfig("bundled"), get_task("extraction")).items
    text = engine.tokenize(" ".join(item.fields["email"] for item in items[:60]))
    assert len(text) > 4000
    prompts = []
    for number, length in enumerate(LENGTHS):
        own = text[400 + 97 * number :]
        shares = SHARED < length < 200
        tokens = (text[:SHARED] + own)[:length] if shares else own[:length]
        shared = SHARED - (number % 3 == 0) if shares else 0
        prompts.append(Prompt(f"{number}: {length} tokens", "", tokens, shared))
    return prompts


class Ladder:
    """The engines of one quant, opened as they are needed, and what each prompt is answered by eight lanes."""

    def __init__(self, demo: ModelConfig, quant: str) -> None:
        self.file, _ = models.resolve(demo, QuantConfig(quant, f"MOSTLY_{quant}"))
        self._demo = demo
        self._engines: dict[int, LlamaCpp] = {}
        self.prompts = asked(self.engine(8))
        self.short = [prompt for prompt in self.prompts if len(prompt.tokens) <= BATCH]
        self.long = self.prompts[len(self.short) :]
        self._expected: dict[tuple[str, str], Answer] = {}

    def expect(self, prompts: list[Prompt], way: str) -> dict[str, Answer]:
        """What eight lanes answer to each of the prompts, asked once and in order."""
        new = [each for each in self.prompts if each in prompts and (way, each.item_id) not in self._expected]
        if new:
            self._expected |= {(way, item): each for item, each in self.answers(8, new, LONGEST, way).items()}
        return {each.item_id: self._expected[way, each.item_id] for each in prompts}

    def engine(self, lanes: int) -> LlamaCpp:
        if lanes not in self._engines:
            self.close()  # two contexts of 16 lanes would be a gigabyte
            config = EngineConfig("llama_cpp", context=1536, threads=1, lanes=lanes)
            self._engines[lanes] = LlamaCpp(self.file, self._demo, config)
        return self._engines[lanes]

    def answers(self, lanes: int, prompts: list[Prompt], tokens: int, way: str = "greedy") -> dict[str, Answer]:
        completions = self.engine(lanes).complete(prompts, replace(WAYS[way], max_tokens=tokens))
        return {prompt.item_id: (each.tokens, each.logprobs) for prompt, each in completions}

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()


MORE_QUANTS = ("Q5_K_M", "Q4_K_M", "Q3_K_M", "F16")
QUANTS = ["Q8_0", *(pytest.param(quant, marks=pytest.mark.slow) for quant in MORE_QUANTS)]


@pytest.fixture(scope="module", params=QUANTS)
def ladder(request: pytest.FixtureRequest, demo: ModelConfig) -> Iterator[Ladder]:
    opened = Ladder(demo, request.param)
    yield opened
    opened.close()


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_answer_depends_on_nothing_around_it(ladder: Ladder, data: st.DataObject) -> None:
    lanes = data.draw(st.sampled_from(LANES), "lanes")
    tokens = data.draw(st.integers(1, LONGEST), "longest answer")
    way = data.draw(st.sampled_from(list(WAYS)), "way of choosing")
    short = data.draw(st.lists(st.sampled_from(ladder.short), min_size=1, max_size=5, unique=True), "prompts")
    long = data.draw(st.lists(st.sampled_from(ladder.long), max_size=1), "a long one")
    prompts = data.draw(st.permutations([*short, *long]), "order")
    expected = ladder.expect(prompts, way)
    answers = ladder.answers(lanes, prompts, tokens, way)
    assert set(answers) == {prompt.item_id for prompt in prompts}
    for item, (written, logprobs) in answers.items():
        expected_tokens, expected_logprobs = expected[item]
        assert written == expected_tokens[:tokens], item
        assert logprobs == expected_logprobs[:tokens], item


def test_the_last_answers_of_a_run_are_moved_together(ladder: Ladder) -> None:
    # Answers of sixteen lanes that end one by one: the last of them are written in fewer rows, after a move.
    prompts = [
        replace(prompt, item_id=f"{prompt.item_id}, {copy}") for prompt in ladder.prompts[:3] for copy in range(4)
    ]
    expected = ladder.expect(ladder.prompts[:3], "greedy")
    engine = ladder.engine(16)
    lanes = engine._lanes
    rows = []
    advance = lanes._advance

    def watched(active: list[object]) -> float:
        rows.append(-(-(active[-1].index + 1) // 8) * 8)  # type: ignore[attr-defined]
        return advance(active)  # type: ignore[arg-type]

    lanes._advance = watched  # type: ignore[method-assign,assignment]
    ended = lanes._extended
    early = {prompt.item_id: 2 + number % 6 for number, prompt in enumerate(prompts)}

    def ending(lane: object, *arguments: object) -> str | None:
        reason = ended(lane, *arguments)  # type: ignore[arg-type]
        answer = lane.answer  # type: ignore[attr-defined]
        return "length" if len(answer.tokens) == early[answer.prompt.item_id] else reason

    lanes._extended = ending  # type: ignore[method-assign,assignment]
    try:
        got = ladder.answers(16, prompts, LONGEST)
    finally:
        lanes._advance, lanes._extended = advance, ended  # type: ignore[method-assign]
    assert rows == sorted(rows, reverse=True)
    assert {8, 16} == set(rows)
    for item, answer in got.items():
        tokens, logprobs = expected[item.rpartition(", ")[0]]
        assert answer == (tokens[: early[item]], logprobs[: early[item]])


def test_verify_finds_them_identical(tiny_engine: LlamaCpp) -> None:
    prompts = [replace(prompt, tokens=prompt.tokens[:40], shared=0) for prompt in asked(tiny_engine)]
    measured = verify(tiny_engine, prompts, Decoding(4))
    assert measured.compared == len(prompts) + 3
    assert measured.identical == measured.compared


def test_verify_finds_a_difference(tiny_engine: LlamaCpp, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [replace(prompt, tokens=prompt.tokens[:9], shared=0) for prompt in asked(tiny_engine)]
    noise = random.Random(0)
    chosen = tiny_engine._lanes._chosen
    monkeypatch.setattr(tiny_engine._lanes, "_chosen", lambda *a: (chosen(*a)[0], chosen(*a)[1] + noise.random()))
    assert verify(tiny_engine, prompts, Decoding(2)).identical == 0


# Drawn answers

DRAWN = Decoding(5, temperature=1.5, top_p=0.95, min_p=0.01, seed=3)


def drawn(engine: LlamaCpp, prompts: list[Prompt], decoding: Decoding = DRAWN) -> dict[tuple[str, int], Answer]:
    return {(p.item_id, p.sample): (e.tokens, e.logprobs) for p, e in engine.complete(prompts, decoding)}


def test_drawn_answers_depend_on_nothing_around_them(tiny_engine: LlamaCpp) -> None:
    prompts = [replace(p, sample=sample) for p in asked(tiny_engine)[:2] for sample in range(4)]
    together = drawn(tiny_engine, prompts)
    assert len(set(together.values())) == len(prompts)  # every sample is another
    assert drawn(tiny_engine, prompts[::-1]) == together
    assert drawn(tiny_engine, prompts[7:8]).items() <= together.items()
    assert drawn(tiny_engine, prompts[:2], replace(DRAWN, seed=4)) != drawn(tiny_engine, prompts[:2])


def test_a_low_temperature_is_nearly_greedy_and_top_p_and_min_p_narrow_the_choice(tiny_engine: LlamaCpp) -> None:
    prompts = asked(tiny_engine)[:2]
    greedy = drawn(tiny_engine, prompts, Decoding(6))
    assert drawn(tiny_engine, prompts, Decoding(6, temperature=1e-4)) == greedy
    assert drawn(tiny_engine, prompts, Decoding(6, temperature=5.0, top_p=1e-6)) == greedy
    assert drawn(tiny_engine, prompts, Decoding(6, temperature=5.0, min_p=1.0)) == greedy
    assert drawn(tiny_engine, prompts, Decoding(6, temperature=5.0)) != greedy


def test_penalties_change_greedy_answers_and_top_k_only_drawn_ones(tiny_engine: LlamaCpp) -> None:
    prompts = asked(tiny_engine)[:3]
    greedy = drawn(tiny_engine, prompts, Decoding(12))
    assert drawn(tiny_engine, prompts, Decoding(12, top_k=1)) == greedy
    assert drawn(tiny_engine, prompts, Decoding(12, temperature=5.0, top_k=1)) == greedy
    hard = drawn(tiny_engine, prompts, Decoding(12, presence_penalty=100.0, penalty_last_n=-1))
    for prompt in prompts:
        tokens, logprobs = hard[prompt.item_id, 0]
        assert len(set(tokens)) == len(tokens)
        assert not set(tokens) & set(prompt.tokens)
        assert max(logprobs) <= 0
    # What is recorded is the model's own probability, which a penalty does not change.
    same_first = [key for key in hard if hard[key][0][0] == greedy[key][0][0]]
    assert same_first
    assert all(hard[key][1][0] == greedy[key][1][0] for key in same_first)


# Keys


def test_the_key_is_of_all_that_an_answer_depends_on(engine: LlamaCpp) -> None:
    prompt = replace(asked(engine)[5], shared=SHARED)
    key = engine.key(prompt, DRAWN)
    assert len(key) == 32
    other = [
        engine.key(replace(prompt, tokens=(*prompt.tokens, 1)), DRAWN),
        engine.key(replace(prompt, shared=SHARED - 1), DRAWN),
        engine.key(replace(prompt, sample=1), DRAWN),
        engine.key(prompt, replace(DRAWN, max_tokens=9)),
        engine.key(prompt, replace(DRAWN, stop=("x",))),
        engine.key(prompt, replace(DRAWN, temperature=1.0)),
        engine.key(prompt, replace(DRAWN, top_p=0.5)),
        engine.key(prompt, replace(DRAWN, min_p=0.5)),
        engine.key(prompt, replace(DRAWN, seed=4)),
        engine.key(prompt, replace(DRAWN, top_k=5)),
        engine.key(prompt, replace(DRAWN, presence_penalty=1.0)),
        engine.key(prompt, replace(DRAWN, presence_penalty=1.0, penalty_last_n=5)),
        engine.key(prompt, replace(DRAWN, frequency_penalty=1.0)),
        engine.key(prompt, replace(DRAWN, repetition_penalty=1.1)),
    ]
    assert len({key, *other}) == len(other) + 1
    assert engine.key(replace(prompt, item_id="another", text="same tokens"), DRAWN) == key
    greedy = Decoding(8)
    assert engine.key(replace(prompt, sample=1), replace(greedy, seed=5, top_p=0.5)) == engine.key(prompt, greedy)
    assert engine.key(prompt, replace(greedy, top_k=5, penalty_last_n=5)) == engine.key(prompt, greedy)
    assert engine.key(prompt, replace(greedy, presence_penalty=1.0)) != engine.key(prompt, greedy)
    assert engine.key(prompt, replace(DRAWN, penalty_last_n=5)) == key  # nothing is penalized
    without = replace(DRAWN, presence_penalty=1.0, repetition_penalty=2.0, penalty_last_n=0)
    assert engine.key(prompt, without) == key


def test_the_key_is_of_the_file_and_the_class_of_lanes(
    tiny_q8_0: tuple[ModelFile, ModelConfig], tiny_engine: LlamaCpp
) -> None:
    prompt = asked(tiny_engine)[0]

    def key(lanes: int, quant: str = "Q8_0", threads: int = 1, context: int = 1024) -> bytes:
        file, _ = models.resolve(tiny_q8_0[1], QuantConfig(quant, f"MOSTLY_{quant}"))
        opened = LlamaCpp(file, tiny_q8_0[1], EngineConfig("llama_cpp", context=context, threads=threads, lanes=lanes))
        try:
            return opened.key(prompt, DRAWN)
        finally:
            opened.close()

    assert key(2) == key(16) == key(8, threads=2) == tiny_engine.key(prompt, DRAWN)
    different = [key(8, "Q4_0"), key(8, context=512), key(1), key(1, threads=2)]
    assert len({key(8), *different}) == len(different) + 1


# Shapes


@given(length=st.integers(1, 4000), shared=st.integers(0, 4000))
def test_a_prompt_is_cut_where_it_alone_says(length: int, shared: int) -> None:
    place = split(Prompt("", "", (0,) * length, shared))
    assert 0 <= place <= shared
    cut = pieces(length, place)
    assert [start for start, _ in cut] == [0, *(end for _, end in cut[:-1])]
    assert cut[-1][1] == length
    assert place in {0, *(end for _, end in cut)}
    sizes = [end - start for start, end in cut]
    assert all(0 < size <= BATCH for size in sizes)
    assert all(size > 1 for size in sizes[1:])


@pytest.mark.parametrize(("lanes", "rows"), [(1, 1), (2, 8), (8, 8), (9, 16), (16, 16), (20, 24)])
def test_rows_come_in_whole_blocks(lanes: int, rows: int) -> None:
    assert count_rows(lanes) == rows
