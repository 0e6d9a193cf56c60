"""Checks of what is around the engine: processor time, compiler, versions, store, disk, the Hub, a browser."""

import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from packaging.requirements import Requirement
from platformdirs import user_cache_path

from quantexp.evaluation.diagnosis.finding import Finding
from quantexp.util.errors import UserError
from quantexp.util.huggingface import check_endpoint
from quantexp.util.native.processor import allowed_cores
from quantexp.util.native.threads import core_quota, physical_cores, usable_cores
from quantexp.util.terminal import last_line, one_line

NAMED = ("quantexp", "llama-cpp-python", "mlflow", "hydra-core", "omegaconf", "huggingface_hub")
"""Distributions whose versions are shown whether or not they fit."""

IMPORTED = ("mlflow", "hydra", "pandas")
"""Modules that are imported, each in a process of its own: they load libraries that may not fit this machine."""

ROOM = 5e9
"""Bytes below which a disk is nearly full: a ladder of quants of a small model."""

SECONDS = 5
"""That the Hub may take."""


def thread_findings() -> Iterator[Finding]:
    """Yield findings about the processor's share that is left for llama.cpp."""
    cores, threads, quota, load = usable_cores(), allowed_cores(), core_quota(), os.getloadavg()[0]
    text = f"{cores} for llama.cpp; {physical_cores()} physical cores, {threads} logical ones allowed"
    text += f", a container's limit of {quota:g}" if quota is not None else ""
    text += f"; load {load:.1f}"
    if load > cores:
        mend = "wait until the machine is idle, or set engine.threads to the cores that are free"
        yield Finding("threads", "warning", f"{text}: others compute, so this will be slow and speeds uncertain", mend)
    elif quota is not None and quota < 1:
        yield Finding("threads", "warning", f"{text}: less than a core", "give the container a core or more")
    else:
        yield Finding("threads", "ok", text)


def compiler_findings() -> Iterator[Finding]:
    """Yield findings about the compiler for llama.cpp."""
    for name in filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")):
        if (path := shutil.which(name)) is not None:
            said = subprocess.run([path, "--version"], capture_output=True, text=True, errors="replace")
            lines = said.stdout.splitlines()
            yield Finding("compiler", "ok", one_line(lines[0]) if lines else name)
            return
    yield Finding("compiler", "warning", "none is here, so llama.cpp cannot be compiled", "install g++ or clang++")


def version_findings() -> Iterator[Finding]:
    """Versions, those that do not fit what quantexp asks for, and modules that cannot be imported."""
    versions = {name: _version(name) for name in NAMED}
    text = ", ".join([f"Python {platform.python_version()}", *(f"{name} {found}" for name, found in versions.items())])
    unfit = []
    for wanted in map(Requirement, requires("quantexp") or []):
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            found = _version(wanted.name)
            if found == "absent" or not wanted.specifier.contains(found, prereleases=True):
                unfit.append(f"{wanted.name}{wanted.specifier}")
    if unfit:
        packages = " ".join(f'"{each}"' for each in unfit)
        mend = f"python -m pip install {packages}"
        yield Finding("versions", "broken", f"{text}; not as needed: {', '.join(unfit)}", mend)
    else:
        yield Finding("versions", "ok", text)
    started = {
        name: subprocess.Popen(
            [sys.executable, "-P", "-c", f"import {name}"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, errors="replace",
        )
        for name in IMPORTED
    }  # fmt: skip
    for name, process in started.items():
        _, said = process.communicate()
        if process.returncode:
            reason = (process.returncode > 0 and last_line(said)) or f"exit status {process.returncode}"
            mend = f"python -m pip install --force-reinstall {_distribution(name)}"
            yield Finding("versions", "broken", f"{name} cannot be imported ({reason})", mend)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _distribution(module: str) -> str:
    """Return the requirement that pip is to install again: the version that is there."""
    name = {"hydra": "hydra-core"}.get(module, module)
    return f"{name}=={_version(name)}"


def store_findings(folder: Path) -> Iterator[Finding]:
    """Yield findings about the runs in this folder, read without MLflow.

    Args:
        folder: the tracking folder.
    """
    database = folder / "mlflow.db"
    elsewhere = "choose another tracking.folder, or put the file back from a copy"
    if not database.exists():
        yield Finding("store", "ok", f"no runs in {folder.absolute()} yet")
        return
    try:
        # Where it cannot write, SQLite can only read a store if it takes for granted that nobody else writes.
        mode = "ro" if os.access(folder, os.W_OK) else "ro&immutable=1"
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode={mode}", uri=True)) as connection:
            revision = str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])
            runs = int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])
            of = "SELECT DISTINCT value FROM tags WHERE key = 'mlflow.version'"
            writers = sorted(str(row[0]) for row in connection.execute(of))
    except (sqlite3.Error, TypeError) as error:
        yield Finding(
            "store", "broken", f"{database} cannot be read as a store of MLflow ({one_line(str(error))})", elsewhere
        )
        return
    text = f"{runs} runs in {folder.absolute()}, written with MLflow {', '.join(writers) or 'of an unknown version'}"
    known = _known_revisions()
    if known and revision not in known:
        text += f"; its tables ({one_line(revision, 20)}) are of a newer MLflow than is here, or of another program"
        yield Finding("store", "broken", text, "install the MLflow that wrote it, or choose another tracking.folder")
    elif not os.access(database, os.W_OK) or not os.access(folder, os.W_OK):
        yield Finding("store", "warning", f"{text}; it cannot be written", "choose another tracking.folder")
    else:
        yield Finding("store", "ok", text)


def _known_revisions() -> set[str]:
    """Versions of its tables that the installed MLflow knows, from the names of its files; none without MLflow."""
    spec = find_spec("mlflow")
    if spec is None or spec.origin is None:
        return set()
    folder = Path(spec.origin).parent / "store" / "db_migrations" / "versions"
    return {found[0] for path in folder.glob("*.py") if (found := re.match(r"[0-9a-f]{12}(?=_)", path.name))}


def disk_findings(folder: Path) -> Iterator[Finding]:
    """Room where files and runs go."""
    cache = user_cache_path("quantexp")
    for name, wanted, mend in (
        ("cache", cache, "remove files there, or set model.cache to another folder"),
        ("runs", folder.absolute(), "remove files there, or set tracking.folder to another folder"),
    ):
        existing = next(path for path in (wanted, *wanted.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        text = f"{free / 1e9:.1f} GB free for {name} in {wanted}"
        if not os.access(existing, os.W_OK):
            yield Finding("disk", "broken", f"{wanted} cannot be written", mend)
        else:
            yield Finding("disk", "ok" if free > ROOM else "warning", text, "" if free > ROOM else mend)


def hub_findings() -> Iterator[Finding]:
    """Yield findings about the Hub, which only models and data from there need."""
    try:
        from huggingface_hub import constants, get_token
    except ImportError as error:
        mend = "python -m pip install --force-reinstall huggingface_hub"
        yield Finding("hub", "broken", f"huggingface_hub cannot be imported ({one_line(str(error))})", mend)
        return
    token = "a token is set" if get_token() else "no token, so public repositories only"
    if constants.HF_HUB_OFFLINE:
        yield Finding(
            "hub", "warning", f"HF_HUB_OFFLINE is set, so nothing is downloaded; {token}", "unset HF_HUB_OFFLINE"
        )
        return
    try:
        check_endpoint()
    except UserError as error:
        yield Finding("hub", "broken", str(error), "unset HF_ENDPOINT")
        return
    host = urlsplit(constants.ENDPOINT).hostname  # the address may hold a password
    try:
        with urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=SECONDS):
            pass
    except HTTPError:
        pass  # it has answered
    except (URLError, OSError, ValueError, HTTPException) as error:
        reason = one_line(str(getattr(error, "reason", error)) or type(error).__name__)
        text = f"{host} cannot be reached ({reason}), so nothing is downloaded; {token}"
        yield Finding("hub", "warning", text, "connect to a network, or use models and data of this machine")
        return
    yield Finding("hub", "ok", f"{host} answers; {token}")


def browser_findings() -> Iterator[Finding]:
    """Yield findings about a browser for report.html and MLflow's pages."""
    names = ("chromium", "google-chrome", "chromium-browser", "firefox")
    if (found := next((name for name in names if shutil.which(name)), None)) is not None:
        yield Finding("browser", "ok", f"{found} can show report.html")
        return
    try:
        webbrowser.get()
    except webbrowser.Error:
        yield Finding("browser", "warning", "none is here", "open report.html on another machine, or install a browser")
    else:
        yield Finding("browser", "ok", "the system's can show report.html")
