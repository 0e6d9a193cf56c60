"""`python -m quantexp.reproduce`: run again what a published file declares; the exit status says if it agrees."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantexp.comparison.results.words import rewrite_file
from quantexp.config import Config, ReproduceConfig, StoreConfig, TrackingConfig
from quantexp.config.command_line import hydra_command
from quantexp.util.errors import UserError
from quantexp.util.files import write_atomically
from quantexp.util.terminal import printable

if TYPE_CHECKING:
    from quantexp.comparison.agreement import Pair
    from quantexp.comparison.publication import Job, Publication

DIFFERS, UNKNOWN = 1, 3
"""Exit statuses; 2 is a user's mistake, 0 an agreement."""


def restore_jobs(publication: "Publication", config: ReproduceConfig) -> list[Config]:
    """Make the configuration of each published job, with this machine's places in it.

    Raises:
        UserError: one is none of this version, or needs something that only this machine can say.
    """
    folder = Path(config.out).expanduser()
    restored = []
    for job in publication.jobs:
        try:
            restored.append(_restore_job(job, publication.stats, config, folder))
        except UserError as error:
            raise UserError(f"{config.file}, {job.condition} on {job.task}: {error}") from error
    return restored


def _restore_job(job: "Job", stats: dict[str, Any], config: ReproduceConfig, folder: Path) -> Config:
    from quantexp.config.published import restore_settings

    places = dict(config.places)
    if config.model_path is not None:
        places["model.path"] = config.model_path
    if config.threads is not None:
        places["engine.threads"] = config.threads
    found = restore_settings(job.settings, stats, places)
    model = found.model
    if job.chat_template is not None:
        name = hashlib.sha256(job.chat_template.encode()).hexdigest()[:16]
        path = folder / f"template-{name}.jinja"
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, job.chat_template.encode())
        model = replace(model, chat_template=str(path))
    if model.source != "server":
        source = job.identity.get("model", {}).get("source") if model.quantize else job.file.sha256
        model = replace(model, sha256=str(source))
    return replace(
        found,
        model=model,
        store=StoreConfig(folder=str(folder / "completions")),
        tracking=TrackingConfig(folder=str(folder / "mlruns")),
    )


def repeat_jobs(publication: "Publication", jobs: Sequence[Config], file: str) -> "list[Pair]":
    """Run the jobs, and return each published one with its repetition.

    Raises:
        UserError: what a job needs is not here.
    """
    from quantexp.comparison.agreement import Pair
    from quantexp.comparison.published_jobs import publish_jobs
    from quantexp.config.fingerprint import config_fingerprint
    from quantexp.sweep.given_jobs import run_jobs
    from quantexp.tracking.store import Store
    from quantexp.tracking.tags import CONFIG

    store = Store(jobs[0].tracking)
    sweep, failed = run_jobs(jobs, store, f"reproduction of {file}")
    records, failures = store.jobs_of(sweep)
    by_config = {record.tags.get(CONFIG): record for record in records}
    pairs = []
    for place, (published, job) in enumerate(zip(publication.jobs, jobs, strict=True)):
        record = by_config.get(config_fingerprint(job))
        if record is None:
            pairs.append(Pair(published, None, failed.get(place, " ".join(failures))))
            continue
        label = published.model, published.task, published.condition
        [again] = publish_jobs([record], {record.run_id: label}, store)
        pairs.append(Pair(published, again))
    return pairs


@hydra_command("quantexp.reproduce", ReproduceConfig, rewrite=rewrite_file)
def main(config: ReproduceConfig) -> None:
    """Entry point."""
    from quantexp.comparison.agreement import Outcome, judge_agreement
    from quantexp.comparison.publication import read_publication

    if not config.file:
        raise UserError("Name the published file: python -m quantexp.reproduce results.json")
    publication = read_publication(Path(config.file).expanduser())
    jobs = restore_jobs(publication, config)
    if not jobs:
        raise UserError(f"{config.file} declares no job.")
    stats = jobs[0].stats
    margins = {job.task: config.margin or stats.margins.get(own.task.name, stats.margin)
               for job, own in zip(publication.jobs, jobs, strict=True)}  # fmt: skip
    pairs = repeat_jobs(publication, jobs, config.file)
    found = judge_agreement(pairs, margins, confidence=stats.confidence)
    for each in found:
        print(printable(f"{each.outcome.value}: {each.name}: {each.reason}"))  # noqa: T201
    outcomes = [each.outcome for each in found]
    agreeing = outcomes.count(Outcome.agrees)
    whole = next((each for each in (Outcome.differs, Outcome.unknown) if each in outcomes), Outcome.agrees)
    said = {
        Outcome.agrees: "the results agree with the published ones",
        Outcome.differs: "the results DIFFER from the published ones",
        Outcome.unknown: "cannot tell whether the results agree with the published ones",
    }[whole]
    print(f"{said}: {agreeing} of {len(found)} conditions agree")  # noqa: T201
    if whole is not Outcome.agrees:
        raise SystemExit(DIFFERS if whole is Outcome.differs else UNKNOWN)


if __name__ == "__main__":
    main()
