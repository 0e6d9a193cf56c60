"""A section of a model card: the verdict, a table a task, a chart, the protocol, and how to do it again."""

from collections.abc import Iterable, Mapping, Sequence

from quantexp.comparison.publication import Job, Publication
from quantexp.comparison.summary import Summary
from quantexp.comparison.wording import has_verdicts, has_zero_width, interval_names, margin_text
from quantexp.report.caveats import select_caveats
from quantexp.report.columns import DataTable
from quantexp.report.conclusions import verdict
from quantexp.report.markdown import escape, write_table
from quantexp.report.tables import comparison_columns, list_lines

RESULTS = "results.json"
"""Name of the file that `quantexp.reproduce` reads."""


def write_card(summary: Summary, publication: Publication, charts: Mapping[str, str], url: str | None = None) -> str:
    """Write the section, to be pasted below a model card's own text.

    Args:
        summary: the comparison.
        publication: what is published of it.
        charts: the file of each model's chart.
        url: where the results are published, if they are.
    """
    found, meaning = verdict(summary)
    shown = "score against measured bits per weight" if summary.has_bits else "differences from the baseline"
    parts = ["## Quantization quality", f"**{escape(found)}** {escape(meaning)}"]
    for model in summary.models():
        several = len(summary.models()) > 1
        for task in summary.tasks(model):
            parts += [f"### {escape(f'{model}, {task}' if several else task)}", _table(summary, model, task)]
        if model in charts:
            parts.append(f"![{escape(model)}: {shown}]({charts[model]})")
    parts.append(_legend(summary))
    caveats, _ = select_caveats(summary)
    if caveats:
        parts.append("\n".join(f"- {escape(each)}" for each in caveats))
    parts += [f"Protocol: {escape(write_protocol(publication))}", *_reproduction(publication, url)]
    return "\n\n".join(parts) + "\n"


def _table(summary: Summary, model: str, task: str) -> str:
    """Tabulate a task's conditions; what nobody measured has no column."""
    lines = list_lines(summary, model, task)
    of_file = ["bits"] if summary.has_bits else []
    of_file += ["size"] if any(line.condition.file_bytes is not None for line in lines) else []
    table = DataTable(comparison_columns(summary), lines)
    return write_table(table.show("quant", *of_file, "score", "difference", "reading"))


def _legend(summary: Summary) -> str:
    count = {each.estimate.n for each in summary.conditions}
    n = f"n = {min(count):,}" + (f" to {max(count):,}" if len(count) > 1 else "")
    told = f" Margin: {margin_text(summary)}. Inconclusive" if has_verdicts(summary) else " Undecided"
    star = " \\* a single point, which bounds nothing." if has_zero_width(summary) else ""
    return (
        f"In points; brackets: {interval_names(summary)} intervals over {summary.unit}s, {n}. Differences are paired, "
        f"on the same items; above 0 {escape(summary.baseline)} is better.{told} does not mean equal.{star}"
    )


def write_protocol(publication: Publication) -> str:
    """Write in a line by what, on what and how the results were made."""
    jobs = publication.jobs
    tasks = dict.fromkeys(each for job in jobs for each in [_describe_task(job, jobs)])
    software = _join(f"quantexp {job.software.quantexp}, {job.software.library}" for job in jobs)
    machines = _join(f"{job.machine.processor}, {job.machine.system.partition('-')[0]}" for job in jobs)
    decoding = _join(str(job.identity.get("settings", {}).get("decoding", "not recorded")) for job in jobs)
    return f"{software} on {machines}; {'; '.join(tasks)}; {decoding}; {publication.protocol['statistics']}."


def _describe_task(job: Job, jobs: Sequence[Job]) -> str:
    data, prompt = job.identity.get("data", {}), job.identity.get("prompt", {})
    alike = [each for each in jobs if each.task == job.task]
    items = max(len(set(each.answers.item)) for each in alike)
    seeds = sorted({each.seed for each in alike})
    return (
        f"{job.task}: {items:,} items a run of {data.get('name')} data ({str(data.get('fingerprint'))[:12]}), seed"
        f"{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}, {prompt.get('shots')}-shot, prompt version "
        f"{prompt.get('version')}, grader {job.identity.get('grader', {}).get('id')}"
    )


def _join(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))


def _reproduction(publication: Publication, url: str | None) -> list[str]:
    """Say how to run it again; files of somebody's own machine have to be had first."""
    jobs = publication.jobs
    version = max(job.software.quantexp for job in jobs)
    is_here = any(job.settings.get("model", {}).get("source") in ("path", "folder") for job in jobs)
    commands = [
        *([] if publication.command is None else [f"# it was run by: {publication.command}"]),
        f'pip install "quantexp=={version}"',
        f"python -m quantexp.reproduce {RESULTS}" + (" model_path=FOLDER_WITH_THE_FILES" if is_here else ""),
    ]
    told = f"Every answer is in {RESULTS} as a hash. This runs all of it again, and says whether it agrees:"
    where = f"[{RESULTS}](<{url}>)" if url else RESULTS
    return [told, "```sh\n" + "\n".join(commands) + "\n```", f"Results: {where}, sha256 `{publication.sha256}`"]
