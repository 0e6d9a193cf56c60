"""Bounds of divergence from a server's likeliest tokens, held to the divergence of whole distributions."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.support.openai_server import Asked, OpenAIServer, Reply, continuation
from tests.support.openai_server import models as listed
from tests.support.stores import runs_of
from tests.support.tiny_models import HARBOUR, open_tiny_pair, write_tiny_pair
from tests.support.tiny_models import HARBOUR_FILE as FILE
from tests.support.vllm_server import answer_by, continuation_with

from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.sequences import Likeliest
from quantexp.evaluation.kl_divergence.likeliest import bound_divergence, take_likeliest, take_rows
from quantexp.evaluation.kl_divergence.llama_file import LlamaRows, encode_rows
from quantexp.evaluation.kl_divergence.windows import windows
from quantexp.tasks.requests import Read

Command = Callable[..., tuple[int, str, str]]


def tell(logits: NDArray[np.float64], actual: NDArray[np.int32], most: int) -> Likeliest:
    """What a server would tell of distributions."""
    logprobs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    ids = np.full((len(logits), most + 1), -1, np.int32)
    of_ids = np.full(ids.shape, -np.inf)
    for row, (values, own) in enumerate(zip(logprobs, actual, strict=True)):
        chosen = sorted({*np.argsort(-values, kind="stable")[:most], own}, key=lambda token: (-values[token], token))
        ids[row, : len(chosen)], of_ids[row, : len(chosen)] = chosen, values[chosen]
    return Likeliest(actual, logprobs[np.arange(len(logits)), actual], ids, of_ids)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int32], int]:
    size, places = draw(st.integers(2, 12)), draw(st.integers(1, 3))
    values = st.lists(st.floats(-9, 9, width=32), min_size=size, max_size=size)
    base, quant = (np.array([draw(values) for _ in range(places)], np.float64) for _ in range(2))
    actual = np.array([draw(st.integers(0, size - 1)) for _ in range(places)], np.int32)
    return base, quant, actual, draw(st.integers(1, size))


@given(pairs())
def test_the_bound_is_below_and_what_is_left_out_explains_the_rest(
    pair: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int32], int],
) -> None:
    base, quant, actual, most = pair
    p, q = (each - np.logaddexp.reduce(each, axis=1, keepdims=True) for each in (base, quant))
    exact = (np.exp(p) * (p - q)).sum(axis=1)
    told = tell(quant, actual, most)
    content = encode_rows(base.astype(np.float32))
    scales = content[:, :8].copy().view("<f4")
    rows = LlamaRows(scales[:, 0], scales[:, 1], content[:, 8 : 8 + 2 * base.shape[1]].view("<u2"))
    for known, slack in ((take_likeliest(tell(base, actual, most)), 1e-4), (take_rows(rows, told), 0.01)):
        measures, left_out = bound_divergence(known, told, most)
        assert (measures.divergence <= exact + slack).all()
        if most == base.shape[1]:
            np.testing.assert_allclose(measures.divergence, exact, atol=slack)
            np.testing.assert_allclose(left_out, 0, atol=1e-3)
        # Of tokens that differ by less than a step, a file does not say which is the likelier.
        leads = [np.diff(np.sort(each, axis=1)[:, -2:], axis=1)[:, 0] for each in (base, quant)]
        clear = np.minimum(*leads) > 0.001
        same_top = base.argmax(axis=1) == quant.argmax(axis=1)
        np.testing.assert_array_equal(measures.same_top[clear], same_top[clear])
        np.testing.assert_allclose(measures.quant_logprob, q[np.arange(len(q)), actual])
    # With the divergence of what is left out, scaled to a sum of 1, the bound from above would be exact.
    hidden = np.array([[token not in row for token in range(base.shape[1])] for row in told.ids])
    r, s = (np.where(hidden, np.exp(each), 0).sum(axis=1) for each in (p, q))
    some = (r > 1e-6) & (s > 1e-4)  # sums near 0 are taken as no more exact than servers' numbers are
    inner = np.where(hidden, np.exp(p) * (p - q), 0).sum(axis=1)[some] / r[some] - np.log(r[some] / s[some])
    assert (exact[some] <= measures.divergence[some] + left_out[some] * inner + 0.01).all()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LlamaCpp, LlamaCpp]]:
    with open_tiny_pair(tmp_path_factory.mktemp("tiny")) as pair:
        yield pair


@pytest.fixture(scope="module")
def servers(pair: tuple[LlamaCpp, LlamaCpp]) -> Iterator[dict[str, OpenAIServer]]:
    base, quant = pair
    pages = listed("tiny")
    with OpenAIServer(answer_by(base), pages=pages) as one, OpenAIServer(answer_by(quant), pages=pages) as other:
        yield {"BF16": one, "awq": other}


def served(servers: dict[str, OpenAIServer], quants: str, *more: str) -> tuple[str, ...]:
    urls = ", ".join(f"{name}: '{server.address}'" for name, server in servers.items())
    read = ("task=text", "data=files", "data.path=harbour.txt", "task.window=64", "stats.baseline=BF16")
    model = ("engine=openai", f"engine.urls={{{urls}}}", "model=server", "model.name=tiny", "quant.bits_per_weight=8")
    return ("-m", f"quant={quants}", *model, *read, "stats.resamples=50", *more)


def read_rows(folder: Path) -> list[dict[str, str]]:
    report = max(folder.glob("multirun/*/*/report"))
    return list(csv.DictReader((report / "divergence.csv").read_text().splitlines()))


def test_quants_behind_servers_are_bounded_from_a_served_baseline_and_from_a_file(
    command: Command, tmp_path: Path, servers: dict[str, OpenAIServer], pair: tuple[LlamaCpp, LlamaCpp]
) -> None:
    (tmp_path / "harbour.txt").write_text(HARBOUR[:400])
    status, _, err = command(tmp_path, "quantexp", *served(servers, "BF16,awq", "task.limit=4"))
    assert status == 0, err
    [of_served] = read_rows(tmp_path)
    status, _, err = command(tmp_path, "quantexp", *served(servers, "BF16,awq", f"divergence_base={FILE}"))
    assert status == 0, err
    itself, of_file = read_rows(tmp_path)

    base, quant = pair
    cut = windows(base, Read(HARBOUR[:400], 64))[:4]
    p, q = (
        np.concatenate([part.logits.astype(np.float64) for part in each.distributions(cut)]) for each in (base, quant)
    )
    p, q = (each - np.logaddexp.reduce(each, axis=1, keepdims=True) for each in (p, q))
    exact = (np.exp(p) * (p - q)).sum(axis=1).mean()
    assert 0 < float(of_file["mean"]) <= exact * 1.001
    assert float(of_file["mean"]) > 0.3 * exact
    assert exact < float(of_file["at_most"])
    assert 0 < float(of_file["left_out"]) < 1
    assert abs(float(itself["mean"])) < 0.001
    assert float(of_served["tokens"]) == float(of_file["tokens"]) == 4 * 31
    page = (max(tmp_path.glob("multirun/*/*/report")) / "report.md").read_text()
    assert "lower bound" in page


@pytest.mark.slow
def test_served_and_local_models_stand_on_one_axis(
    command: Command, tmp_path: Path, servers: dict[str, OpenAIServer]
) -> None:
    (tmp_path / "harbour.txt").write_text(HARBOUR[:400])
    write_tiny_pair(tmp_path)
    base = f"divergence_base={FILE}"
    assert command(tmp_path, "quantexp", *served(servers, "BF16,awq", base))[0] == 0
    here = ("weights=base.gguf,quant.gguf", "model.name=tiny", "engine.threads=1", "engine.context=128")
    read = ("task=text", "data=files", "data.path=harbour.txt", "task.window=64", base)
    assert command(tmp_path, "quantexp", "-m", *here, *read)[0] == 0
    runs = ",".join(run.info.run_id for run in runs_of(tmp_path, "job"))
    status, _, err = command(tmp_path, "quantexp.aggregate", f"runs=[{runs}]", "stats.baseline=base")
    assert status == 1, err  # the scores of servers are not paired
    report = max(tmp_path.glob("multirun/*/*-aggregate/report"))
    found = {row["quant"]: row for row in csv.DictReader((report / "divergence.csv").read_text().splitlines())}
    assert [name.split()[0] for name in found] == ["base", "BF16", "awq", "quant"]
    bound, exact = (float(row["mean"]) for name, row in found.items() if name.startswith(("awq", "quant")))
    assert 0 < bound < exact
    assert [row["left_out"] != "" for row in found.values()] == [False, True, True, False]


@pytest.mark.parametrize(
    ("given", "arguments", "sentence"),
    [
        (
            "nothing",
            (),
            "gives no log-probabilities of a prompt's tokens (prompt_logprobs), of which divergence",
        ),
        ("too few", (), "for a prompt of 64 tokens for the log-probabilities of a prompt's tokens"),
        ("all", ("engine.prompt_logprobs=50",), "lower it, or start vLLM with --max-logprobs 50."),
        ("all", ("divergence_write=a.kld",), "divergence_write needs whole distributions"),
    ],
)
def test_what_a_server_does_not_give_is_told(
    command: Command,
    tmp_path: Path,
    pair: tuple[LlamaCpp, LlamaCpp],
    given: str,
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    (tmp_path / "harbour.txt").write_text(HARBOUR[:400])
    by_model = answer_by(pair[0])

    def answer(asked: Asked) -> Reply:
        if "prompt_logprobs" not in asked or given == "all":
            return by_model(asked)
        return continuation() if given == "nothing" else continuation_with([None])

    with OpenAIServer(answer, pages=listed("tiny")) as server:
        command_line = served({"BF16": server}, "BF16", "task.limit=2", "engine.retries=0", *arguments)
        status, _, err = command(tmp_path, "quantexp", *command_line)
    assert status != 0
    assert sentence in " ".join(err.split())
    assert "Traceback" not in err
