"""Plain text (`task=text`): windows scored by next-token accuracy and perplexity; each is an item."""

import hashlib
import itertools
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pandas as pd

from quantexp.config import Config
from quantexp.engines import Completion, Engine, Prompt
from quantexp.engines.base import LikeliestEngine, ReadingEngine, TextEngine, as_reading, as_teller
from quantexp.engines.sequences import Likeliest, TokenScores, TokenSequence
from quantexp.evaluation.divergence import (
    find_reference_file,
    keep_reference,
    make_reference_path,
    measure_against_baseline,
    record_measures,
)
from quantexp.evaluation.generation import Generated
from quantexp.evaluation.kl_divergence.likeliest import (
    bound_divergence,
    bound_from_file,
    read_likeliest,
    take_likeliest,
    write_likeliest,
)
from quantexp.evaluation.kl_divergence.llama_file import LlamaFile, find_windows, measure_from_file, open_base
from quantexp.evaluation.kl_divergence.reference import read_baseline_scores
from quantexp.evaluation.kl_divergence.windows import windows
from quantexp.tasks.items import Dataset, Item, draw_items
from quantexp.tasks.requests import Read
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.run import Run
from quantexp.tracking.tags import BASE, REFERENCE
from quantexp.util.errors import UserError


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of plain text that a job reads.

    Attributes:
        items: one a window, in the order in which they are read; the field `text` is the scored half, `tokens` that
            half token by token. Windows of one document share its cluster where there are several documents.
        prompts: the half before it, likewise.
        sequences: both halves, likewise.
        cut: how many windows the text has, of which these were drawn.
        sha256: of how they were cut.
        base: the file that divergence is measured from, if it is a file.
        numbers: which window of that file each is, counted from 0.
        told: of each, what a server has told of its predictions; none if the model is in this process.
    """

    items: tuple[Item, ...]
    prompts: tuple[Prompt, ...]
    sequences: tuple[TokenSequence, ...]
    cut: int
    sha256: str
    base: LlamaFile | None = None
    numbers: tuple[int, ...] = ()
    told: tuple[Likeliest, ...] = ()


def windows_of(engine: Engine, data: Dataset, config: Config) -> Windows:
    """Cut each document into windows, and draw from them.

    Args:
        engine: the loaded model.
        data: an item is a document; one that is shorter than a window is left out, as is the end of the others.
        config: the job.

    Raises:
        UserError: no document fills a window, a window does not fit into the context, or fewer are there than wanted;
            or `divergence_base` is no file of this model and text.
    """
    length = config.task.window
    if length is None or not 4 <= length <= config.engine.context:
        raise UserError(
            f"task.window={'null' if length is None else length} must be at least 4 tokens and at most "
            f"engine.context={config.engine.context}."
        )
    reading = cast(TextEngine, engine)  # the task's requests need it
    found: dict[str, tuple[Item, TokenSequence]] = {}
    for document in data.items:
        for number, sequence in enumerate(windows(reading, Read(document.fields["text"], length)), start=1):
            name = f"{document.id}-{number}"
            cluster = name if len(data.items) == 1 else document.cluster
            found[name] = Item(name, {}, document.difficulty, cluster), sequence
    if not found:
        raise UserError(
            f"No text of {data.name} has one window of {length} tokens; give longer ones, or lower task.window."
        )
    base, numbers = _find_base(config, reading, {name: each for name, (_, each) in found.items()})
    items = draw_items(
        [item for item, _ in found.values() if base is None or item.id in numbers], config.seed, config.task.limit
    )
    sequences = tuple(found[item.id][1] for item in items)
    teller = as_teller(engine)
    # A server says how tokens are written while it reads them.
    told = () if teller is None else tuple(teller.likeliest(sequences))
    halves = [sequence.tokens[sequence.first :] for sequence in sequences]
    items = tuple(
        replace(item, fields={"text": reading.text_of(half), "tokens": _pieces(reading, half)})
        for item, half in zip(items, halves, strict=True)
    )
    prompts = tuple(
        Prompt(item.id, reading.text_of(sequence.tokens[: sequence.first]), sequence.tokens[: sequence.first], shared=0)
        for item, sequence in zip(items, sequences, strict=True)
    )
    how = f"windows of {length} tokens, the last {sequences[0].scored} scored"
    how += "" if teller is None else f", of each place the likeliest {teller.most}"
    return Windows(
        *(items, prompts, sequences, len(numbers) if base else len(found), hashlib.sha256(how.encode()).hexdigest()),
        base,
        tuple(numbers[item.id] for item in items) if base else (),
        told,
    )


def _find_base(
    config: Config, reading: TextEngine, cut: Mapping[str, TokenSequence]
) -> tuple[LlamaFile | None, dict[str, int]]:
    """Return the file that divergence is measured from, and the numbers in it of the windows that it has, by name."""
    if config.divergence_base is None:
        return None, {}
    base, names = open_base(config.divergence_base, config.task.window), list(cut)
    size = as_reading(reading, "Divergence").vocabulary.size if as_teller(reading) is None else None
    found = find_windows(base, list(cut.values()), reading.bos, size)
    return base, {names[place]: number for place, number in found.items()}


def read(config: Config, baseline: JobRecord | None, run: Run, engine: Engine, given: Windows) -> Generated:
    """Read the windows once, for the scores and for divergence.

    Args:
        config: the job.
        baseline: the baseline's finished job; None if this is it.
        run: of this job.
        engine: the loaded model.
        given: what is read.

    Returns:
        For each window the scored half, as if it had been answered: its text is the list of the tokens that the model
        held likeliest, as JSON.

    Raises:
        UserError: the baseline's distributions are not there, or would need more room than is allowed.
    """
    started = time.perf_counter()
    names = pd.DataFrame({"item_id": [item.id for item in given.items], "sample": 0})
    if given.told:
        scores = _bound(config, baseline, run, cast(LikeliestEngine, engine), given, names)
    else:
        scores = _measure(config, baseline, run, as_reading(engine, f"task={config.task.name}"), given, names)
    seconds = (time.perf_counter() - started) / len(scores.top)
    ends = list(itertools.accumulate(sequence.scored for sequence in given.sequences))
    completions = []
    for sequence, end in zip(given.sequences, ends, strict=True):
        place = slice(end - sequence.scored, end)
        completions.append(
            Completion(
                text=json.dumps(_pieces(cast(TextEngine, engine), scores.top[place].tolist()), ensure_ascii=False),
                tokens=sequence.tokens[sequence.first :],
                logprobs=tuple(scores.logprobs[place].tolist()),
                finish_reason="stop",
                prompt_seconds=0.0,
                generation_seconds=seconds * sequence.scored,
            )
        )
    return Generated(tuple(completions), len(completions), 0)


def _measure(
    config: Config, baseline: JobRecord | None, run: Run, engine: ReadingEngine, given: Windows, names: pd.DataFrame
) -> TokenScores:
    """Read the windows with a model in this process, and measure its divergence unless it is the baseline."""
    if given.base is not None:
        measures = measure_from_file(given.base, given.numbers, engine, given.sequences)
        record_measures(run, measures, [sequence.scored for sequence in given.sequences], names)
        run.log(tags={BASE: given.base.path.name})
    elif baseline is None:
        return read_baseline_scores(keep_reference(config, run, engine, given.sequences))
    else:
        measures = measure_against_baseline(config, baseline, run, engine, given.sequences, names)
    return TokenScores(measures.quant_top, measures.quant_logprob.astype(np.float32))


def _bound(
    config: Config, baseline: JobRecord | None, run: Run, engine: LikeliestEngine, given: Windows, names: pd.DataFrame
) -> TokenScores:
    """Bound the divergence of a server's model by what it has told of the windows, unless it is the baseline."""
    told = Likeliest.join(given.told)
    if given.base is None and baseline is None:
        path = make_reference_path(config, {**engine.reading_facts(given.sequences), "likeliest": str(engine.most)})
        write_likeliest(path, told, given.sequences)
        run.log(tags={REFERENCE: str(path)})
        return told.scores
    if given.base is not None:
        measures, left_out = bound_from_file(given.base, given.numbers, given.told, engine.most)
        run.log(tags={BASE: given.base.path.name})
    else:
        assert baseline is not None
        known = take_likeliest(read_likeliest(find_reference_file(config, baseline), given.sequences))
        measures, left_out = bound_divergence(known, told, engine.most)
    record_measures(run, measures, [sequence.scored for sequence in given.sequences], names, left_out)
    return told.scores


def _pieces(engine: TextEngine, tokens: Iterable[int]) -> list[str]:
    """Each token's text; bytes that are not UTF-8 on their own become U+FFFD."""
    return [engine.text_of([token]) for token in tokens]
