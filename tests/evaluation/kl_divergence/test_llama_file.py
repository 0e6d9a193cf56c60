"""Files of llama-perplexity: one that the real tool has written, and what is made of it."""

import csv
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.tiny_models import HARBOUR, open_tiny_pair, write_tiny_pair
from tests.support.tiny_models import HARBOUR_FILE as FILE

from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.evaluation.kl_divergence.llama_file import (
    CUT,
    MOST_STEPS,
    LlamaFileWriter,
    LlamaRows,
    encode_rows,
    find_windows,
    measure_from_file,
    measure_rows,
    open_llama_file,
)
from quantexp.evaluation.kl_divergence.windows import windows
from quantexp.tasks.requests import Read
from quantexp.util.errors import UserError

PRINTED = {
    "mean": 0.047905,
    "median": 0.033344,
    "maximum": 0.432669,
    "same top": 77.419,
    "rms": 0.208,
    "ratio": 0.007307,
}
"""What llama-perplexity has printed for the second model; probabilities and shares in percent."""

HALF_STEP = CUT / MOST_STEPS / 2


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LlamaCpp, LlamaCpp]]:
    with open_tiny_pair(tmp_path_factory.mktemp("tiny")) as pair:
        yield pair


def test_figures_are_those_that_the_tool_prints(pair: tuple[LlamaCpp, LlamaCpp]) -> None:
    _, quant = pair
    file = open_llama_file(FILE)
    cut = windows(quant, Read(HARBOUR, 64))
    assert len(cut) > len(file.tokens) == 4
    numbers = find_windows(file, cut, quant.bos, quant.vocabulary.size)
    assert numbers == {0: 0, 1: 1, 2: 2, 3: 3}
    # The order and the number of windows do not matter.
    found = measure_from_file(file, [2, 0, 3, 1], quant, [cut[place] for place in (2, 0, 3, 1)])
    change = 100 * (np.exp(found.quant_logprob) - np.exp(found.baseline_logprob))
    figures = {
        "mean": found.divergence.mean(),
        "median": np.median(found.divergence),
        "maximum": found.divergence.max(),
        "same top": 100 * found.same_top.mean(),
        "rms": np.sqrt((change**2).mean()),
        "ratio": (found.baseline_logprob - found.quant_logprob).mean(),
    }
    # Other processors round otherwise.
    assert figures == pytest.approx(PRINTED, rel=0.01, abs=5e-4)


def test_what_is_written_is_what_the_tool_writes(pair: tuple[LlamaCpp, LlamaCpp], tmp_path: Path) -> None:
    base, _ = pair
    path = tmp_path / "ours.kld"
    cut = windows(base, Read(HARBOUR, 64))[:4]
    for part in LlamaFileWriter(base, path).distributions(cut):
        assert part.logits.shape == (31, 288)
    ours, theirs = (open_llama_file(each) for each in (path, FILE))
    assert path.read_bytes()[:20] == FILE.read_bytes()[:20]
    # The tool keeps the text's own token where it reads BOS.
    np.testing.assert_array_equal(ours.tokens[:, 1:], theirs.tokens[:, 1:])
    assert path.stat().st_size == FILE.stat().st_size
    for number in range(4):
        one, other = (each.rows(number).log_probabilities() for each in (ours, theirs))
        np.testing.assert_allclose(one, other, atol=0.02)  # in nats, of 16
    found = measure_from_file(theirs, range(4), base, cut)
    assert abs(found.divergence).max() < 0.001
    assert found.same_top.all()


logits = st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=9)


@given(st.lists(logits, min_size=1, max_size=3), logits)
def test_rounding_is_bounded(baselines: list[list[float]], given_quant: list[float]) -> None:
    size = min(len(given_quant), *(len(each) for each in baselines))
    base = np.array([each[:size] for each in baselines], np.float32)
    quant = np.tile(np.array(given_quant[:size], np.float32), (len(base), 1))
    content = encode_rows(base)
    assert content.shape[1] == 8 + 4 * ((size + 1) // 2)
    scales = content[:, :8].copy().view("<f4")
    rows = LlamaRows(scales[:, 0], scales[:, 1], content[:, 8 : 8 + 2 * size].view("<u2"))
    wide = (each.astype(np.float64) for each in (base, quant))
    p, q = (each - np.logaddexp.reduce(each, axis=1, keepdims=True) for each in wide)
    kept = base > base.max(axis=1, keepdims=True) - CUT
    np.testing.assert_allclose(rows.log_probabilities()[kept], p[kept], atol=HALF_STEP + 2e-5)
    found = measure_rows(rows, base.argmax(axis=1).astype(np.int32), quant)
    exact = (np.exp(p) * (p - q)).sum(axis=1)
    cut = np.abs(np.where(kept, 0, np.exp(p) * (p - q))).sum(axis=1)
    bound = HALF_STEP * (1 + (np.exp(p) * np.abs(p - q)).sum(axis=1))
    assert (np.abs(found.divergence - exact) <= 1.1 * bound + cut + 1e-4).all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda content: b"_logarit" + content[8:], "does not begin with _logits_; give one made with"),
        (lambda content: content[:5], "does not begin with _logits_"),
        (lambda content: content[:-30000], "should take 73,460: only 2 are whole; make it again."),
        (lambda content: content + b"more", "should take 73,460: it is another format."),
        (lambda content: content[:8] + struct.pack("<Iii", 64, 288, 0), r"has no windows in it \(0 of 64 tokens"),
        (lambda content: content[:23] + b"\xff" + content[24:], "it holds tokens outside its vocabulary"),
    ],
)
def test_what_is_no_such_file_is_told(change: Callable[[bytes], bytes], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.kld"
    path.write_bytes(change(FILE.read_bytes()))
    with pytest.raises(UserError, match=sentence):
        open_llama_file(path)


def test_files_of_other_models_and_texts_are_told(pair: tuple[LlamaCpp, LlamaCpp], engine: LlamaCpp) -> None:
    file, (base, _) = open_llama_file(FILE), pair
    cut = windows(base, Read(HARBOUR, 64))
    with pytest.raises(UserError, match=r"over 288 tokens and this model has 49,152; take the file of a quant of"):
        find_windows(file, cut, base.bos, engine.vocabulary.size)
    with pytest.raises(UserError, match="was made of another text, or by another tokenizer: its window 4 of 4 is none"):
        find_windows(file, cut[:3], base.bos, base.vocabulary.size)


def test_a_sweep_writes_a_file_and_another_measures_every_condition_from_it(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    write_tiny_pair(tmp_path)
    (tmp_path / "harbour.txt").write_text(HARBOUR)
    read = ("task=text", "data=files", "data.path=harbour.txt", "task.window=64", "engine.threads=1")
    arguments = ("-m", "weights=base.gguf,quant.gguf", "model.name=tiny", *read, "engine.context=128")
    status, _, err = command(tmp_path, "quantexp", *arguments, "task.limit=4", "divergence_write=own.kld")
    assert status == 0, err
    assert "wrote own.kld, for llama-perplexity's --kl-divergence" in err
    assert len(open_llama_file(tmp_path / "own.kld").tokens) == 4

    status, _, err = command(tmp_path, "quantexp", *arguments, f"divergence_base={FILE}")
    assert status == 0, err
    report = max(tmp_path.glob("multirun/*/*/report"))
    base, quant = csv.DictReader((report / "divergence.csv").read_text().splitlines())
    assert (base["quant"], quant["quant"]) == ("base", "quant")
    assert float(base["mean"]) == pytest.approx(0, abs=5e-4)
    assert float(quant["mean"]) == pytest.approx(PRINTED["mean"], rel=0.01)
    page = (report / "report.md").read_text()
    assert "KL(harbour.kld" in page
    assert "the nearest to harbour.kld first: base, then quant" in page
    assert "harbour.kld" in (report / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("divergence_base=none.kld",), "divergence_base=none.kld is not a file; make it with llama-perplexity"),
        ((f"divergence_base={FILE}", "task.window=32"), "has windows of 64 tokens and task.window=32: set"),
        ((f"divergence_base={FILE}", "divergence_write=a.kld"), "leave one of them out."),
        (("divergence_write=no/a.kld",), "divergence_write=no/a.kld is in no folder that there is: make it first."),
        ((f"divergence_base={FILE}", "task=gsm8k", "data=bundled"), "add task=text data=files data.path=TEXT"),
    ],
)
def test_what_a_file_cannot_be_used_for_is_told(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "harbour.txt").write_text(HARBOUR)
    read = ("task=text", "data=files", "data.path=harbour.txt", "task.window=64")
    given = [each for each in read if each.split("=")[0] not in {word.split("=")[0] for word in arguments}]
    status, _, err = command(tmp_path, "quantexp", *given, *arguments)
    assert status == 2
    assert sentence in " ".join(err.split())
    assert "Traceback" not in err
