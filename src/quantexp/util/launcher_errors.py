"""Errors of Hydra's launchers as sentences."""


def sentence_of_launcher(error: BaseException) -> str | None:
    """Return the sentence for an error that a launcher, not a job, reports; None for all other errors."""
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    if "joblib.TerminatedWorkerError" in names:
        return (
            "A process was killed, by hand or by the system for want of memory, and joblib ended the others; "
            "the same command goes on from what has finished."
        )
    if "submitit.UncompletedJobError" in names:
        return f"A Slurm job was killed or ended without a result: {_first_line(error)}"
    if "submitit.FailedSubmissionError" in names or "submitit.SlurmParseException" in names:
        return f"Slurm refused the jobs: {_first_line(error)}"
    if names & {"ray.WorkerCrashedError", "ray.OutOfMemoryError", "ray.NodeDiedError", "ray.RayTaskError"}:
        return (
            "A job's process was killed, by hand or for want of memory, more often than Ray tries again, so the others "
            "are ended; the same command goes on from what has finished."
        )
    if isinstance(error, ConnectionError) and "Ray cluster" in str(error):
        return f"hydra/launcher=ray found no Ray: {_first_line(error)}; set hydra.launcher.ray.init.address."
    if isinstance(error, OSError) and "AF_UNIX path length" in str(error):
        return (
            "The folder of temporary files is too deep for the names of Ray's sockets "
            f"({_first_line(error)}); set hydra.launcher.ray.init._temp_dir, or TMPDIR, to a shorter one."
        )
    if isinstance(error, RuntimeError) and "are you indeed on a slurm cluster" in str(error):
        return "hydra/launcher=slurm calls sbatch and srun, which are not here; run it where jobs are submitted."
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
