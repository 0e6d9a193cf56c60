"""Results in the files that are published: a model card's section, a chart, tables, citations."""

from collections.abc import Mapping
from pathlib import Path

from quantexp.comparison.publication import Condition, Job, Publication
from quantexp.comparison.summary import DIFFERENCES, Summary
from quantexp.report.chart_files import save_charts
from quantexp.report.charts import charts
from quantexp.report.citation import write_citation
from quantexp.report.columns import Column, DataTable, list_attributes
from quantexp.report.eval_results import FOLDER, list_results
from quantexp.report.model_card import RESULTS, write_card
from quantexp.util.files import write_atomically

CARD, TABLE, CITATION = "model-card.md", "results.csv", "citation.bib"

Row = tuple[Condition, Job]
"""A condition, and the first of its runs."""


def write_export(
    folder: Path,
    summary: Summary,
    publication: Publication,
    *,
    benchmarks: Mapping[str, str],
    url: str | None,
    author: str | None,
) -> tuple[list[Path], list[str]]:
    """Write all files into a folder, made when missing.

    Args:
        folder: where to.
        summary: the comparison.
        publication: what is published of it.
        benchmarks: of tasks the Hub's benchmark (`list_results`).
        url: where the results are published, if they are.
        author: of the results.

    Returns:
        The files, the card first, and a sentence for each task that has no file in `.eval_results`.

    Raises:
        UserError: a benchmark is none.
        OSError: a file cannot be written.
    """
    entries, left_out = list_results(publication, benchmarks, url)
    folder.mkdir(parents=True, exist_ok=True)
    kind = "score_vs_bits" if summary.has_bits else DIFFERENCES
    pictures = save_charts(summary, [each for each in charts(summary) if each.file == kind], folder)
    stems = {model: f"{stem}.png" for model, stem in summary.chart_stems(kind).items()}
    drawn = {model: name for model, name in stems.items() if folder / name in pictures}
    files = {
        CARD: write_card(summary, publication, drawn, url),
        RESULTS: publication.dump(),
        TABLE: write_rows(publication),
        CITATION: write_citation(publication, author, url),
        **{f"{FOLDER}/{name}": text for name, text in entries.items()},
    }
    if entries:
        (folder / FOLDER).mkdir(exist_ok=True)
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    return [*(folder / name for name in files), *pictures], left_out


def write_rows(publication: Publication) -> str:
    """Write a row a condition and task as CSV; scores are fractions, and what is not known is empty."""
    first = {(job.model, job.task, job.condition): job for job in reversed(publication.jobs)}
    rows = [(each, first[each.model, each.task, each.condition]) for each in publication.conditions]
    return DataTable(_columns(publication), rows).format_csv()


def _columns(publication: Publication) -> list[Column[Row]]:
    seeds: dict[tuple[str, str, str], set[int]] = {}
    for job in publication.jobs:
        seeds.setdefault((job.model, job.task, job.condition), set()).add(job.seed)
    return [
        *list_attributes(lambda row: row[0], "model", "task", "condition"),
        Column("baseline", lambda _: publication.baseline),
        Column("score", lambda row: row[0].score.mean),
        *list_attributes(lambda row: row[0].score, "low", "high", prefix="score_"),
        *list_attributes(lambda row: row[0].score, "n", "answers"),
        Column("loss", lambda row: row[0].loss and row[0].loss.difference),
        *list_attributes(lambda row: row[0].loss, "low", "high", "upper", prefix="loss_"),
        *list_attributes(lambda row: row[0].loss, "p_value", "p_adjusted", "margin", "verdict"),
        *list_attributes(lambda row: row[0], "bits_per_weight", "file_bytes", "tokens_per_second", "grader"),
        Column("seeds", lambda row: " ".join(map(str, sorted(seeds[row[0].model, row[0].task, row[0].condition])))),
        Column("data_sha256", lambda row: row[1].identity.get("data", {}).get("fingerprint")),
        Column("prompt_sha256", lambda row: row[1].identity.get("prompt", {}).get("sha256")),
        Column("file_sha256", lambda row: row[1].file.sha256),
        *list_attributes(lambda row: row[1].software, "quantexp", "library"),
    ]
