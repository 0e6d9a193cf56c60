"""Jobs side by side, through Hydra's launchers: what these need before the first job, and what they say when one dies.

The launchers are Hydra's plugins; nothing here schedules anything.
"""

import logging
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from quantexp.config import Config, Method
from quantexp.config.condition import is_baseline, name_condition, read_references
from quantexp.util import job_process
from quantexp.util.environment import DECLARED, DEVICES, FOLDER, PARENT, PROCESSES, REFERENCES, SEVERAL_MODELS
from quantexp.util.errors import UserError
from quantexp.util.native.threads import THREADS, usable_cores

log = logging.getLogger(__name__)

VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES")
"""Variables that say which GPUs a process sees: NVIDIA's, AMD's, and that of llama.cpp's Vulkan backend."""

BESIDE_THE_MODEL = 2 * 2**30
"""Bytes of a job that are neither weights nor KV cache: Python with its libraries, llama.cpp's buffers for a batch."""

ON_A_CPU = 2
"""Processes that joblib starts where no GPUs are named: each loads a model of its own and gets half of the cores."""


def name_launcher(config: DictConfig) -> str:
    """Return the launcher's name: basic, joblib, slurm, ray, or whatever class another plugin brings."""
    target = str(config.hydra.launcher._target_)
    known = {"BasicLauncher": "basic", "JoblibLauncher": "joblib", "SlurmLauncher": "slurm", "RayLauncher": "ray"}
    return known.get(target.rpartition(".")[2], target)


def check_order(launcher: str, jobs: Sequence[Config]) -> None:
    """Refuse jobs side by side of which some need others' results.

    Raises:
        UserError: the baseline's job, which is among them, has not finished before.
    """
    if launcher == "basic":
        return
    from quantexp.config.fingerprint import pair_fingerprint
    from quantexp.evaluation.finished_jobs import find_baseline
    from quantexp.evaluation.job_identity import pairing_facts
    from quantexp.tasks import open_task
    from quantexp.tasks.data import load
    from quantexp.tasks.requests import Read
    from quantexp.tracking.store import Store

    stats = jobs[0].stats  # the same for all
    baselines_run = any(is_baseline(job) for job in jobs)
    sequential = stats.method is Method.sequential
    waited_for: dict[str, Config] = {}
    for job in jobs:
        task = open_task(job.task)
        waits = sequential or ((job.divergence or task.request is Read) and job.divergence_base is None)
        if waits and baselines_run and not is_baseline(job):
            facts = pairing_facts(job, load(job.data, task), task.grader(job.task.grader))
            waited_for[pair_fingerprint(job, **facts)] = job
    store = Store.open_existing(jobs[0].tracking) if waited_for else None
    if any(store is None or find_baseline(job, pair, store, None) is None for pair, job in waited_for.items()):
        needs = "stats=sequential" if sequential else "divergence"
        baseline = next(name_condition(job) for job in jobs if is_baseline(job))
        alone = f"the baseline {baseline}" if read_references() else f"this command with quant={baseline}"
        if jobs[0].weights is not None:
            alone = f"this command with the weights of {baseline}"
        if (template := jobs[0].model.chat_template) is not None:  # the baseline's, which all files of the sweep share
            alone += f" and model.chat_template={template}"
        raise UserError(
            f"hydra/launcher={launcher} starts all jobs side by side, and {needs} needs the baseline's finished "
            f"before the others begin: run {alone} alone, then as it is."
        )


def configure_launcher(config: DictConfig, jobs: Sequence[Config]) -> None:
    """Fill in what the launcher's configuration leaves open, and tell the jobs what is theirs.

    Args:
        config: of the sweep; its launcher's part is changed.
        jobs: all of its jobs.

    Raises:
        UserError: the GPUs are not named that the processes are to divide.
    """
    for variable in (THREADS, DEVICES, PROCESSES):
        os.environ.pop(variable, None)
    launcher = config.hydra.launcher
    with open_dict(launcher):
        match name_launcher(config):
            case "joblib":
                _divide(launcher, jobs)
            case "slurm":
                launcher.mem_gb = launcher.mem_gb or job_process.call(memory_gb, jobs)
                if launcher.cpus_per_task:
                    os.environ[THREADS] = str(launcher.cpus_per_task)
                log.info(
                    "as Slurm jobs named %s, with %d GB of memory; their output: %s",
                    launcher.name, launcher.mem_gb, Path(launcher.submitit_folder).parent,
                )  # fmt: skip
            case "ray":
                remote = launcher.ray.remote
                remote.memory = remote.memory or job_process.call(memory_gb, jobs) << 30
                if remote.num_cpus:
                    os.environ[THREADS] = str(math.ceil(remote.num_cpus))
                # Workers on other machines have another environment than this process.
                known = (PARENT, DECLARED, REFERENCES, SEVERAL_MODELS, THREADS, "MLFLOW_TRACKING_URI")
                given = {name: os.environ[name] for name in known if name in os.environ}
                if launcher.ray.init.get("address") or os.environ.get("RAY_ADDRESS"):
                    # The plugin would ask for a size, which a Ray that runs already refuses.
                    launcher.ray.init.setdefault("object_store_memory", None)
                given[FOLDER] = str(Path.cwd())
                launcher.ray.init = OmegaConf.merge(launcher.ray.init, {"runtime_env": {"env_vars": given}})
                # So would they put their logs elsewhere: each job's configuration is composed anew.
                with open_dict(config):
                    config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{Path(config.hydra.sweep.dir).absolute()}'")
                log.info("as Ray tasks, with %d GB of memory", remote.memory >> 30)


def memory_gb(jobs: Sequence[Config]) -> int:
    """Gigabytes (2**30 bytes) that the largest job needs: weights, the KV cache of its lanes, and the rest."""
    from quantexp import models
    from quantexp.engines.llama_cpp.memory import needed_bytes

    return max(
        math.ceil((needed_bytes(models.find_source(job.model, job.quant), job) + BESIDE_THE_MODEL) / 2**30)
        for job in jobs
    )


def _divide(launcher: DictConfig, jobs: Sequence[Config]) -> None:
    """Cores and GPUs of this machine among joblib's processes."""
    on_gpu = any(job.engine.gpu_layers for job in jobs) and job_process.call(_supports_gpu)
    variable = next((name for name in VISIBLE if os.environ.get(name)), None)
    if on_gpu and variable is None:
        raise UserError(
            "hydra/launcher=joblib gives each process a GPU of its own, and has to know which there are: "
            "begin the command with CUDA_VISIBLE_DEVICES=0,1 (or HIP_VISIBLE_DEVICES, GGML_VK_VISIBLE_DEVICES)."
        )
    devices = os.environ[variable].split(",") if on_gpu and variable else []
    if launcher.n_jobs == 0:
        launcher.n_jobs = min(len(devices) or ON_A_CPU, len(jobs))
    processes = launcher.n_jobs if launcher.n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + launcher.n_jobs)
    os.environ[THREADS] = str(max(1, usable_cores() // processes))
    os.environ[PROCESSES] = str(processes)
    if variable and devices:
        os.environ[DEVICES] = variable
    log.info(
        "%d processes side by side, %s", processes,
        f"on {variable}={','.join(devices)}" if devices else f"with {os.environ[THREADS]} threads each",
    )  # fmt: skip


def _supports_gpu() -> bool:
    from quantexp.util.llama_library import llama_cpp

    return bool(llama_cpp.llama_supports_gpu_offload())


def end_others(launcher: str) -> None:
    """After an error: end the jobs that still run. Slurm's go on; joblib has ended its own."""
    if launcher == "ray" and (ray := sys.modules.get("ray")) is not None:
        ray.shutdown()
