"""Both passes with the real engine: from one loaded model to the file, from the file to the measures of another."""

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from quantexp import models
from quantexp.config import EngineConfig, ModelConfig, QuantConfig
from quantexp.engines.llama_cpp import teacher_forcing as forcing_module
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.llama_cpp.teacher_forcing import Forcing
from quantexp.engines.sequences import TokenSequence
from quantexp.evaluation.kl_divergence import reference as reference_module
from quantexp.evaluation.kl_divergence.encoding import encode
from quantexp.evaluation.kl_divergence.measures import TokenMeasures, measure
from quantexp.evaluation.kl_divergence.reference import compare, predicted_bytes, write_reference
from quantexp.evaluation.kl_divergence.windows import windows
from quantexp.tasks.requests import Read
from quantexp.util.errors import UserError

TEXTS = (
    "The river rises in the hills to the north and reaches the sea after ninety miles, near the old harbour.",
    "Water boils at a lower temperature on a mountain, because the air presses less on it there.",
    "She counted the coins twice, wrote the sum into the book, and locked the drawer before the bell rang.",
    "A short one.",
)


@pytest.fixture(scope="module")
def baseline(engine: LlamaCpp) -> Iterator[Forcing]:
    with Forcing(engine.model, context=1024, threads=1) as forcing:
        yield forcing


@pytest.fixture(scope="module")
def sequences(engine: LlamaCpp) -> list[TokenSequence]:
    return [TokenSequence(engine.tokenize_plain(text), 2) for text in TEXTS]


@pytest.fixture(scope="module")
def written(baseline: Forcing, sequences: list[TokenSequence], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "reference.parquet"
    write_reference(path, baseline, sequences, {"baseline": "Q8_0"})
    return path


@pytest.fixture(scope="module")
def quant(demo: ModelConfig) -> Iterator[LlamaCpp]:
    file = models.resolve(demo, QuantConfig("Q3_K_M", "MOSTLY_Q3_K_M"))[0]
    loaded = LlamaCpp(file, demo, EngineConfig("llama_cpp", context=256, threads=1, lanes=1))
    yield loaded
    loaded.close()


def all_logits(forcing: Forcing, sequence: TokenSequence) -> NDArray[np.float32]:
    return np.concatenate([logits.copy() for _, logits in forcing.rows(sequence)])


def assert_same(one: TokenMeasures, other: TokenMeasures) -> None:
    for name in one.__slots__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_baseline_against_itself(baseline: Forcing, sequences: list[TokenSequence], written: Path) -> None:
    found = compare(written, baseline, sequences)
    assert len(found) == sum(sequence.scored for sequence in sequences)
    np.testing.assert_allclose(found.divergence, 0.0, atol=1e-5)
    assert found.same_top.all()
    np.testing.assert_allclose(found.baseline_logprob, found.quant_logprob, atol=1e-5)


def test_a_quant_against_whole_distributions(
    baseline: Forcing, quant: LlamaCpp, sequences: list[TokenSequence], written: Path
) -> None:
    with Forcing(quant.model, context=256, threads=1) as forcing:
        found = compare(written, forcing, sequences)
        rows = [[all_logits(each, s).astype(np.float64) for s in sequences] for each in (baseline, forcing)]
    p, q = (np.concatenate(each) for each in rows)
    p, q = (each - np.logaddexp.reduce(each, axis=1, keepdims=True) for each in (p, q))
    full = (np.exp(p) * (p - q)).sum(axis=1)
    assert found.divergence.mean() == pytest.approx(full.mean(), rel=0.03)
    assert np.corrcoef(found.divergence, full)[0, 1] > 0.99
    actual = np.concatenate([sequence.tokens[sequence.first :] for sequence in sequences])
    places = np.arange(actual.size)
    np.testing.assert_allclose(np.exp(found.baseline_logprob), np.exp(p[places, actual]), atol=1e-5)
    np.testing.assert_allclose(np.exp(found.quant_logprob), np.exp(q[places, actual]), atol=1e-5)
    np.testing.assert_array_equal(found.same_top, p.argmax(axis=1) == q.argmax(axis=1))


def test_neighbours_order_and_the_size_of_the_context_do_not_matter(
    engine: LlamaCpp, baseline: Forcing, sequences: list[TokenSequence]
) -> None:
    before = [all_logits(baseline, sequence) for sequence in sequences]
    after = [all_logits(baseline, sequence) for sequence in reversed(sequences)][::-1]
    with Forcing(engine.model, context=300, threads=1) as small:
        alone = all_logits(small, sequences[1])
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(alone, before[1])


def test_measures_do_not_depend_on_neighbours(
    baseline: Forcing, quant: LlamaCpp, sequences: list[TokenSequence], written: Path, tmp_path: Path
) -> None:
    chosen = [sequences[2], sequences[0]]
    other = tmp_path / "other.parquet"
    write_reference(other, baseline, chosen)
    with Forcing(quant.model, context=256, threads=1) as forcing:
        whole, part = compare(written, forcing, sequences), compare(other, forcing, chosen)
    whole_ends, part_ends = (np.cumsum([each.scored for each in read])[:-1] for read in (sequences, chosen))
    of_whole, of_part = np.split(whole.divergence, whole_ends), np.split(part.divergence, part_ends)
    for index, place in ((0, 1), (2, 0)):
        np.testing.assert_allclose(of_whole[index], of_part[place], rtol=1e-6, atol=1e-9)


def test_large_vocabularies_take_more_calls_with_the_same_outcome(engine: LlamaCpp, baseline: Forcing) -> None:
    sequence = TokenSequence(engine.tokenize_plain(" ".join(TEXTS)), 3)
    with (
        patch.object(forcing_module, "LOGITS_BYTES", 4 * 16 * baseline.vocabulary.size),
        Forcing(engine.model, context=256, threads=1) as forcing,
    ):
        parts = [(actual, logits.copy()) for actual, logits in forcing.rows(sequence)]
    assert max(len(logits) for _, logits in parts) == 16
    assert np.concatenate([actual for actual, _ in parts]).tolist() == list(sequence.tokens[3:])
    # Other shapes of calls round otherwise, which in so small a model is seen.
    whole = all_logits(baseline, sequence)
    actual = np.array(sequence.tokens[3:], np.int32)
    found = measure(encode(whole, actual), np.concatenate([logits for _, logits in parts]))
    assert found.divergence.mean() < 0.01
    assert found.same_top.mean() > 0.9


def test_rows_span_groups(baseline: Forcing, sequences: list[TokenSequence], written: Path, tmp_path: Path) -> None:
    path = tmp_path / "grouped.parquet"
    with patch.object(reference_module, "GROUP", 1):
        write_reference(path, baseline, sequences)
    assert pq.ParquetFile(path).num_row_groups == len(sequences)
    assert_same(compare(path, baseline, sequences), compare(written, baseline, sequences))


def test_the_predicted_size_is_near(written: Path, sequences: list[TokenSequence]) -> None:
    tokens = sum(sequence.scored for sequence in sequences)
    assert predicted_bytes(tokens) / 3 < written.stat().st_size < predicted_bytes(tokens) * 3


def test_sequences_that_do_not_fit_are_refused(baseline: Forcing) -> None:
    with pytest.raises(ValueError, match="1025 tokens does not fit into a context of 1024"):
        list(baseline.rows(TokenSequence((5,) * 1025, 1)))
    with pytest.raises(ValueError, match="tokens outside"):
        list(baseline.rows(TokenSequence((5, baseline.vocabulary.size), 1)))


def test_windows_are_those_of_llama_perplexity(engine: LlamaCpp) -> None:
    text = " ".join(TEXTS)
    tokens = engine.tokenize_plain(text)
    found = windows(engine, Read(text, 16))
    assert [each.tokens for each in found] == [tokens[i : i + 16] for i in range(0, len(tokens) - 15, 16)]
    assert {each.first for each in found} == {9}
    with patch("quantexp.util.llama_library.llama_cpp.llama_vocab_get_add_bos", lambda _: True):
        begun, *_ = windows(engine, Read(text, 16))
    assert begun.tokens == (1, *tokens[1:16])  # <|im_start|> is this vocabulary's BOS
    assert windows(engine, Read(text, 512)) == []  # shorter than one of 512


@pytest.mark.parametrize("damage", ["cut", "byte", "rubbish"])
def test_a_damaged_file_is_named(
    damage: str, baseline: Forcing, sequences: list[TokenSequence], written: Path, tmp_path: Path
) -> None:
    content = bytearray(written.read_bytes())
    if damage == "cut":
        del content[-100:]
    elif damage == "byte":
        content[len(content) // 3] ^= 0xFF
    else:
        content[:] = b"rubbish"
    path = tmp_path / "damaged.parquet"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged\.parquet is damaged \(.*\); delete it to have it made again\.$"):
        compare(path, baseline, sequences)


def test_one_flipped_bit_is_noticed_or_does_no_harm(
    baseline: Forcing, sequences: list[TokenSequence], tmp_path: Path
) -> None:
    path, chosen = tmp_path / "flipped.parquet", sequences[-1:]
    write_reference(path, baseline, chosen, {"baseline": "Q8_0"})
    content, intact = path.read_bytes(), compare(path, baseline, chosen)
    rng = np.random.default_rng(0)
    noticed = 0
    for _ in range(50):
        flipped = bytearray(content)
        flipped[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            assert_same(compare(path, baseline, chosen), intact)
        except UserError:
            noticed += 1
    assert noticed > 25


def test_a_file_of_something_else_is_named(
    baseline: Forcing, sequences: list[TokenSequence], written: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="is not there"):
        compare(tmp_path / "none.parquet", baseline, sequences)
    with pytest.raises(UserError, match="other texts"):
        compare(written, baseline, sequences[:2])
    other = tmp_path / "other.parquet"
    table = pq.read_table(written)
    pq.write_table(table.replace_schema_metadata({}), other)
    with pytest.raises(UserError, match="holds no distributions"):
        compare(other, baseline, sequences)
    meaning = table.schema.metadata[b"quantexp"]
    pq.write_table(table.replace_schema_metadata({"quantexp": meaning.replace(b'"format": 1', b'"format": 0')}), other)
    with pytest.raises(UserError, match="another version of quantexp"):
        compare(other, baseline, sequences)
    wrong = meaning.replace(baseline.vocabulary.sha256.encode(), b"0" * 64)
    pq.write_table(table.replace_schema_metadata({"quantexp": wrong}), other)
    with pytest.raises(UserError, match="another vocabulary"):
        compare(other, baseline, sequences)
    pq.write_table(table.slice(0, 5), other)
    with pytest.raises(UserError, match="it ends too early"):
        compare(other, baseline, sequences)


def test_an_interrupted_pass_leaves_nothing_behind(
    baseline: Forcing, sequences: list[TokenSequence], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        write_reference(tmp_path / "new.parquet", baseline, [*sequences, TokenSequence((5,) * 1025, 1)])
    assert not list(tmp_path.iterdir())
