"""Runs quantexp's commands many times in processes of their own without paying for the imports each time.

Reads lines of JSON, {"folder": ..., "module": ..., "arguments": [...], "environment": {...}, "files": ...,
"attributes": {...}, "umask": ..., "without": [...]}; for each, forks a child that runs the command in the folder, with
these variables changed, or removed where they are null, with these attributes of modules, with this mask of permissions
unless it is null, and without these of Linux's capabilities; and prints the child's number. The child's output is in
out.txt and err.txt in the folder "files", its input comes from in.txt there if there is one, and its exit status goes
to status.txt. Prints "ready" first. This process itself never computes: threads of llama.cpp would not survive a fork.
"""

import ctypes
import gc
import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path


def give_up(capabilities: list[int]) -> None:
    """Give up Linux's capabilities below 32, such as that of root to write what others own; by their numbers."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the version of what follows; this process
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then those from 32 on
    if libc.capget(header, held):
        raise OSError(ctypes.get_errno(), "capget")
    for capability in capabilities:
        for kind in range(3):
            held[kind] &= ~(1 << capability)
    if libc.capset(header, held):
        raise OSError(ctypes.get_errno(), "capset")


FOLDERS = {"quantexp", "quantexp.models", "quantexp.store"}
MODULES = {name: import_module(f"{name}.__main__" if name in FOLDERS else name) for name in sys.argv[1:]}
JOBS = (
    "mlflow",
    "pandas",
    "llama_cpp",
    "quantexp.engines.llama_cpp.engine",
    "quantexp.evaluation.job",
    "quantexp.models.contents",
    "quantexp.models.quantize",
    "quantexp.sweep.file_review",
    "quantexp.tracking.store",
    "quantexp.tracking.migration",
    "quantexp.report.charts",
    "quantexp.comparison.analysis",
    "quantexp.comparison.changed_answers",
    "quantexp.comparison.divergence",
    "quantexp.comparison.pairing",
    "quantexp.config.job_names",
    "quantexp.report.chart_files",
    "quantexp.report.html",
    "quantexp.report.mlflow_pages",
    "quantexp.report.terminal",
)
# What others import when a store, a comparison or a report first needs it; each version has its own.
LATE = (
    "PIL.GifImagePlugin",
    "alembic.config",
    "hydra._internal.logging_config",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.style",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "pyarrow.dataset",
    "pyarrow.pandas_compat",
    "rich._emoji_codes",
    "scipy.stats",
    "sqlalchemy.dialects.sqlite",
)
# What the Hub's libraries import; not these themselves, which read the environment when they are imported. Whoever
# names datasets as a module has set it before.
CLIENTS = ("httpx", "httpx2", "httpcore2", "h11", "anyio._backends._asyncio", "truststore")
HUB = ("hub_worker", "datasets")
DATA = (
    "pandas",
    "pyarrow.parquet",
    "pyarrow.dataset",
    "fsspec",
    "aiohttp",
    "requests",
    "dill",
    "multiprocess",
    "scipy.sparse",
    "quantexp.tasks.data.hub",
)
EMAILS = (
    "quantexp.util.progress",
    "quantexp.tasks.data.files",
    "quantexp.tasks.emails.review_session",
    "quantexp.tasks.emails.summary",
)
for name in MODULES:
    for heavy in EMAILS if name.endswith("_extraction") else DATA if name in HUB else JOBS:
        import_module(heavy)
for client in CLIENTS:
    if find_spec(client.partition(".")[0]):
        import_module(client)

hydra = import_module("hydra")
import_module("quantexp.config.hydra_schemas").register_schemas()
with hydra.initialize_config_module("quantexp.conf", version_base="1.3"):
    # Looks through all plugins, reads the configuration, and uses Hydra's grammar.
    composed = hydra.compose("config", ["seed=0"], return_hydra_config=True)

sorted(import_module("quantexp.tasks").TASKS)  # imports their modules

if "mlflow" in sys.modules:
    for late in LATE:
        with suppress(ModuleNotFoundError):
            import_module(late)
    tables = import_module("empty_tables")  # which is beside this file, as is the other
    tables.copy_tables(Path(os.environ[tables.VARIABLE]))
    import_module("footprints").keep_footprints(Path(os.environ[tables.VARIABLE]))
    import_module("sqlalchemy.orm").configure_mappers()  # which the first query would do
    import_module("quantexp.config.composition").job_of(composed)  # makes the structure of a job
    import_module("quantexp.report.html")._environment().get_template("report.html")  # compiles it

gc.freeze()  # no child looks for garbage among what is imported
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system takes the ended children away
sys.stdout.write("ready\n")
sys.stdout.flush()
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ["QUANTEXP_START_METHOD"] = "fork"  # a fresh interpreter would have to import it all
        os.chdir(order["folder"])
        sys.path.insert(0, order["folder"])  # as python -m does
        for variable, value in order["environment"].items():
            os.environ.pop(variable, None)
            if value is not None:
                os.environ[variable] = value
        for place, value in order["attributes"].items():
            owner, _, attribute = place.rpartition(".")
            setattr(import_module(owner), attribute, value)
        if order["umask"] is not None:
            os.umask(order["umask"])
        if order["without"]:
            give_up(order["without"])
        files = Path(order["files"])
        given = files / "in.txt"
        os.dup2(os.open(given if given.exists() else os.devnull, os.O_RDONLY), 0)
        sys.stdin = open(0, encoding=sys.stdin.encoding)  # noqa: SIM115 - the old one has read orders
        for descriptor, name in ((1, "out.txt"), (2, "err.txt")):
            os.dup2(os.open(files / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
        module = MODULES[order["module"]]
        sys.argv = [module.__file__ or "", *order["arguments"]]
        try:
            module.main()
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        except BaseException:  # noqa: BLE001 - what Python does with it at the end of a command
            traceback.print_exc()
            status = 1
        else:
            status = 0
        sys.stdout.flush()
        sys.stderr.flush()
        (files / "status.txt").write_text(str(status))
        os._exit(status)
    sys.stdout.write(f"{child}\n")
    sys.stdout.flush()
