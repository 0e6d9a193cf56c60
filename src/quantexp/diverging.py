"""A job's part in measuring divergence (`divergence=true`): the baseline's pass, and each quant's against it."""

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from quantexp.config import Config
from quantexp.divergence import (
    Forcing,
    TokenSequence,
    compare,
    digest_of,
    first_divergence,
    predicted_bytes,
    write_reference,
)
from quantexp.divergence.encoding import DRAWN, TAU
from quantexp.engines import Completion, Engine, Prompt
from quantexp.engines.llama_cpp import LlamaCpp
from quantexp.errors import UserError
from quantexp.tracking import ANSWERS, DIVERGENCE, PARTED, REFERENCE, Run, Store

log = logging.getLogger(__name__)

FOLDER = "references"
"""Where the baselines' distributions are, in the completion store's folder."""


def measure_divergence(
    config: Config,
    pair: str,
    store: Store,
    sweep: str | None,
    run: Run,
    engine: Engine,
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
) -> None:
    """Keep the baseline's distributions over its own answers, or hold a quant's against them; recorded in the run.

    Args:
        config: the job.
        pair: what it has in common with the baseline's (`fingerprint.pair_fingerprint`).
        store: where both are recorded.
        sweep: id of the run that the job belongs to, if any.
        run: of this job.
        engine: the loaded model.
        prompts: what was asked.
        completions: the answers to the prompts.

    Raises:
        UserError: the baseline's distributions are not there, or would need more room than is allowed.
    """
    if not isinstance(engine, LlamaCpp):
        raise UserError("divergence=true needs a model in this process: set engine=llama_cpp.")
    answers = _answers(prompts, completions)
    if config.quant.name == config.stats.baseline:
        _baseline(config, run, engine, answers)
    else:
        _quant(config, pair, store, sweep, run, engine, answers)


def _forcing(engine: LlamaCpp, config: Config) -> Forcing:
    return Forcing(engine.model, context=config.engine.context, threads=engine.threads)


def _answers(prompts: Sequence[Prompt], completions: Iterable[Completion]) -> pd.DataFrame:
    """One row for each answer that has tokens."""
    return pd.DataFrame(
        [
            (prompt.item_id, prompt.sample, list(prompt.tokens), list(completion.tokens), completion.text)
            for prompt, completion in zip(prompts, completions, strict=True)
            if completion.tokens
        ],
        columns=["item_id", "sample", "prompt_tokens", "tokens", "output"],
    )


def _sequences(answers: pd.DataFrame) -> list[TokenSequence]:
    """Prompt and answer, of which the answer is scored."""
    rows = zip(answers["prompt_tokens"], answers["tokens"], strict=True)
    return [TokenSequence((*map(int, prompt), *map(int, tokens)), len(prompt)) for prompt, tokens in rows]


def _baseline(config: Config, run: Run, engine: LlamaCpp, answers: pd.DataFrame) -> None:
    sequences = _sequences(answers)
    facts = {
        "file": engine.file.sha256,
        **engine.settings,
        **engine.machine,
        "tau": str(TAU),
        "drawn": str(DRAWN),
        "sequences": digest_of(sequences),
    }
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    path = Path(config.store.folder).absolute() / FOLDER / f"{name}.parquet"
    if not path.is_file():
        log.info("%s: keeping the distributions over its own answers, for the quants to be held against", run.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_room(path.parent, predicted_bytes(sum(each.scored for each in sequences)), config.store.references_gb)
        with _forcing(engine, config) as forcing:
            write_reference(path, forcing, sequences, facts)
    run.log(tags={REFERENCE: str(path)})
    run.log_table(answers, ANSWERS)


def _check_room(folder: Path, needed: int, most_gb: float) -> None:
    there = sum(file.stat().st_size for file in folder.glob("*.parquet"))
    if there + needed > most_gb * 1e9:
        raise UserError(
            f"The baseline's distributions will need about {needed / 1e9:.3g} GB in {folder}, which holds "
            f"{there / 1e9:.3g} GB already, and store.references_gb={most_gb:g} allows no more: delete files there, "
            "lower task.limit, or raise store.references_gb."
        )


def _quant(
    config: Config, pair: str, store: Store, sweep: str | None, run: Run, engine: LlamaCpp, own: pd.DataFrame
) -> None:
    baseline = store.baseline_of(pair, config.stats.baseline, sweep)
    if baseline is None:
        raise UserError(
            f"divergence=true holds each quant against the baseline's distributions, and {config.stats.baseline} of "
            f"{config.model.name} on {config.task.name} with seed {config.seed} has no finished run with "
            "divergence=true: run it first, or put it first in quant=."
        )
    path = Path(baseline.tags[REFERENCE])
    if not path.is_file():
        raise UserError(
            f"The baseline's distributions are not in {path} any more: run the baseline again with force=true."
        )
    with store.file(baseline.run_id, f"{ANSWERS}.parquet") as file:
        answers = pd.read_parquet(file)
    log.info("%s: reading the baseline's answers, for divergence", run.name)
    with _forcing(engine, config) as forcing:
        found = compare(path, forcing, _sequences(answers))
    measures = found.measures
    run.log_table(
        pd.DataFrame(
            {
                "item_id": answers["item_id"].to_numpy()[found.sequence],
                "sample": answers["sample"].to_numpy()[found.sequence],
                "divergence": measures.divergence.astype(np.float32),
                "same_top": measures.same_top,
                "baseline_logprob": measures.baseline_logprob.astype(np.float32),
                "quant_logprob": measures.quant_logprob.astype(np.float32),
            }
        ),
        DIVERGENCE,
    )
    run.log_items(parted(answers, own), PARTED)
    run.log(metrics={DIVERGENCE: float(measures.divergence.mean()), "same_top": float(measures.same_top.mean())})


def parted(baseline: pd.DataFrame, quant: pd.DataFrame) -> pd.DataFrame:
    """Where each answer of a quant leaves the baseline's, and how both go on.

    Args:
        baseline: the columns item_id, sample, tokens and output, one row an answer.
        quant: likewise.

    Returns:
        One row for each answer that both gave: item_id, sample, token (index of the first that differs; missing if none
        does), tokens (of the baseline's answer), agreed (what both wrote), baseline and quant (how each goes on).
    """
    both = baseline.merge(quant, on=["item_id", "sample"], suffixes=("", "_quant"))
    rows = []
    for each in both.to_dict("records"):
        place = first_divergence(each["tokens"], each["tokens_quant"])
        same = None if place is None else first_divergence(each["output"], each["output_quant"])
        agreed = each["output"][:same]
        rows.append(
            {
                "item_id": each["item_id"],
                "sample": each["sample"],
                "token": place,
                "tokens": len(each["tokens"]),
                "agreed": agreed,
                "baseline": each["output"][len(agreed) :],
                "quant": each["output_quant"][len(agreed) :],
            }
        )
    columns = ["item_id", "sample", "token", "tokens", "agreed", "baseline", "quant"]
    return pd.DataFrame(rows, columns=columns).astype({"token": "Int64"})
