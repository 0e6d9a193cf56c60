"""A job's part in measuring divergence (`divergence=true`): the baseline's pass, and each quant's against it."""

import collections
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quantexp.config import Config, Forced
from quantexp.config.condition import is_baseline
from quantexp.engines import Completion, Engine, Prompt
from quantexp.engines.base import Predictor, ReadingEngine, as_reading, hash_key
from quantexp.engines.sequences import TokenSequence, first_divergence
from quantexp.evaluation.finished_jobs import find_baseline
from quantexp.evaluation.kl_divergence.encoding import DRAWN, TAU
from quantexp.evaluation.kl_divergence.llama_file import LlamaFileWriter
from quantexp.evaluation.kl_divergence.measures import TokenMeasures
from quantexp.evaluation.kl_divergence.reference import compare, predicted_bytes, write_reference
from quantexp.tasks import Task
from quantexp.tasks.items import Item
from quantexp.tracking.artifacts import read_table
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.run import Run
from quantexp.tracking.store import Store
from quantexp.tracking.tags import ANSWERS, DIVERGENCE, DIVERGENCE_ITEMS, GOLD, LEFT_OUT, PARTED, REFERENCE
from quantexp.util.errors import UserError

log = logging.getLogger(__name__)

FOLDER = "references"
"""Where the baselines' distributions are, in the completion store's folder."""


def measure_divergence(
    config: Config,
    task: Task,
    baseline: JobRecord | None,
    store: Store,
    run: Run,
    engine: Engine,
    items: Mapping[str, Item],
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
) -> None:
    """Keep the baseline's distributions over the answers, or hold a quant's against them; recorded in the run.

    Args:
        config: the job.
        task: whose gold answers are read with `divergence_over=gold`.
        baseline: the baseline's finished job; None if this is it.
        store: where both are recorded.
        run: of this job.
        engine: the loaded model.
        items: those that the prompts ask, by id.
        prompts: what was asked.
        completions: the answers to the prompts.

    Raises:
        UserError: the baseline's distributions are not there, or would need more room than is allowed.
    """
    reading = as_reading(engine, "Divergence")
    own = _answers(prompts, completions)
    gold = config.divergence_over is Forced.gold
    if baseline is None:
        read = _gold(engine, task, items, prompts, config.engine.context) if gold else own
        keep_reference(config, run, reading, _sequences(read))
        run.log_table(own, ANSWERS)
        if gold:
            run.log_table(read, GOLD)
        return
    answers = _table(store, baseline, ANSWERS)
    read = _table(store, baseline, GOLD) if gold else answers
    log.info("%s: reading the %s answers, for divergence", run.name, "gold" if gold else "baseline's")
    measure_against_baseline(config, baseline, run, reading, _sequences(read), read)
    table = find_partings(answers, own)
    run.log_items(table, PARTED)
    run.log(metrics={PARTED: int(table["token"].notna().sum())})


def baseline_job(config: Config, pair: str, store: Store, sweep: str | None) -> JobRecord | None:
    """Return the finished job that a quant's divergence is measured from; None if the job is the baseline's own.

    Args:
        config: the job.
        pair: what it has in common with the baseline's (`fingerprint.pair_fingerprint`).
        store: where that is recorded.
        sweep: id of the run that the job belongs to, if any.

    Raises:
        UserError: the baseline has no such job.
    """
    if is_baseline(config):
        return None
    found = find_baseline(config, pair, store, sweep)
    if found is None:
        raise UserError(
            f"Divergence is measured from the baseline's distributions, and {config.stats.baseline} of "
            f"{config.model.name} on {config.task.name} with seed {config.seed} has no finished run that left them: "
            "run it first with the same settings, or put it first in quant=."
        )
    return found


def keep_reference(config: Config, run: Run, engine: ReadingEngine, sequences: Sequence[TokenSequence]) -> Path:
    """Write the baseline's distributions over the sequences to a file; one that is there already serves.

    Raises:
        UserError: there would be more of such files than `store.references_gb` allows.
    """
    facts = {**engine.reading_facts(sequences), "tau": str(TAU), "drawn": str(DRAWN)}
    path = make_reference_path(config, facts)
    written = None if config.divergence_write is None else Path(config.divergence_write).expanduser()
    model: Predictor = engine if written is None else LlamaFileWriter(engine, written)
    if not path.is_file():
        log.info("%s: keeping its distributions, for the quants to be held against", run.name)
        _check_room(path.parent, predicted_bytes(sum(each.scored for each in sequences)), config.store.references_gb)
        write_reference(path, model, sequences, facts)
    elif written is not None:
        with closing(model.distributions(sequences)) as parts:
            collections.deque(parts, maxlen=0)
    if written is not None:
        log.info("%s: wrote %s, for llama-perplexity's --kl-divergence", run.name, written)
    run.log(tags={REFERENCE: str(path)})
    return path


def make_reference_path(config: Config, facts: Mapping[str, str]) -> Path:
    """Return the file for the baseline's predictions that depend on these facts; its folder is there afterwards."""
    folder = _reference_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{hash_key(facts).hex()[:32]}.parquet"


def find_reference_file(config: Config, baseline: JobRecord) -> Path:
    """Return the file with a baseline's predictions.

    Raises:
        UserError: it is gone.
    """
    # The name alone: the store may have been moved since, or the tag be somebody else's.
    path = _reference_folder(config) / Path(baseline.tags.get(REFERENCE, "none")).name
    if not path.is_file():
        raise UserError(
            f"The baseline's distributions are not in {path} any more: run the baseline again with force=true."
        )
    return path


def _reference_folder(config: Config) -> Path:
    return Path(config.store.folder).expanduser().absolute() / FOLDER


def measure_against_baseline(
    config: Config,
    baseline: JobRecord,
    run: Run,
    engine: ReadingEngine,
    sequences: Sequence[TokenSequence],
    names: pd.DataFrame,
) -> TokenMeasures:
    """Measure a quant over the baseline's sequences, recorded token by token.

    Args:
        config: the job.
        baseline: the baseline's.
        run: of this job.
        engine: the quant.
        sequences: what the baseline has read.
        names: item_id and sample of each sequence.

    Raises:
        UserError: the baseline's file is gone, damaged, or of other sequences.
    """
    measures = compare(find_reference_file(config, baseline), engine, sequences)
    record_measures(run, measures, [sequence.scored for sequence in sequences], names)
    return measures


def record_measures(
    run: Run,
    measures: TokenMeasures,
    counts: Sequence[int],
    names: pd.DataFrame,
    left_out: NDArray[np.float64] | None = None,
) -> None:
    """Record what was measured, token by token.

    Args:
        run: of the job.
        measures: of all tokens of all sequences.
        counts: tokens of each sequence.
        names: item_id and sample of each.
        left_out: where divergence is a lower bound, the baseline's probability of what is left out at each token.
    """
    sequence = np.repeat(np.arange(len(counts)), counts)
    tokens = pd.DataFrame(
        {
            "item_id": names["item_id"].to_numpy()[sequence],
            "sample": names["sample"].to_numpy()[sequence],
            "divergence": measures.divergence.astype(np.float32),
            "same_top": measures.same_top,
            "baseline_logprob": measures.baseline_logprob.astype(np.float32),
            "quant_logprob": measures.quant_logprob.astype(np.float32),
        }
    )
    metrics = {DIVERGENCE: float(measures.divergence.mean()), "same_top": float(measures.same_top.mean())}
    if left_out is not None:
        tokens[LEFT_OUT] = left_out.astype(np.float32)
        metrics[LEFT_OUT] = float(left_out.mean())
    run.log_table(tokens, DIVERGENCE)
    of_item = tokens.groupby(["item_id", "sample"], sort=False)
    run.log_items(of_item.mean().assign(tokens=of_item.size()).reset_index(), DIVERGENCE_ITEMS)
    run.log(metrics=metrics)


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


def _gold(
    engine: Engine, task: Task, items: Mapping[str, Item], prompts: Iterable[Prompt], context: int
) -> pd.DataFrame:
    """One row for each item that fits into the context with its gold answer: as `_answers`, without the output."""
    rows = []
    for prompt in prompts:
        gold = task.target(items[prompt.item_id].fields)
        # Where the prompt ends in white space, the answer goes on at once; else it is another word.
        begun = prompt.text.removeprefix(engine.render(prompt.messages, tools=prompt.tools)) + (
            "" if prompt.text[-1:].isspace() else " "
        )
        _, tokens = engine.encode_chat(prompt.messages, begun + gold, prompt.tools)
        # At the seam a token may hold letters of both: it and what follows it is the answer.
        same = first_divergence(prompt.tokens, tokens)
        if prompt.sample == 0 and same and len(tokens) <= context:
            rows.append((prompt.item_id, 0, list(tokens[:same]), list(tokens[same:])))
    if not rows:
        raise UserError(f"No prompt fits into engine.context={context} together with its gold answer; raise it.")
    return pd.DataFrame(rows, columns=["item_id", "sample", "prompt_tokens", "tokens"])


def _table(store: Store, job: JobRecord, name: str) -> pd.DataFrame:
    with store.file(job.run_id, f"{name}.parquet") as file:
        return read_table(file)


def _check_room(folder: Path, needed: int, most_gb: float) -> None:
    there = sum(file.stat().st_size for file in folder.glob("*.parquet"))
    if there + needed > most_gb * 1e9:
        raise UserError(
            f"The baseline's distributions will need about {needed / 1e9:.3g} GB in {folder}, which holds "
            f"{there / 1e9:.3g} GB already, and store.references_gb={most_gb:g} allows no more: delete files there, "
            "lower task.limit, or raise store.references_gb."
        )


def find_partings(baseline: pd.DataFrame, quant: pd.DataFrame) -> pd.DataFrame:
    """Find where each answer of a quant leaves the baseline's, and how both continue.

    Args:
        baseline: the columns item_id, sample, tokens and output, one row an answer.
        quant: likewise.

    Returns:
        One row for each answer that both gave: item_id, sample, token (index of the first that differs; missing if none
        does), tokens (of the baseline's answer), agreed (what both wrote), baseline and quant (how each goes on).
    """
    both = baseline.merge(quant, on=["item_id", "sample"], suffixes=("", "_quant"))
    rows: list[dict[str, Any]] = []
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
