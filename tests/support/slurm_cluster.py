"""A real Slurm of one node, with accounting, in a folder: no systemd, own ports, nothing outside the folder changed."""

import getpass
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from running import SHOWN, free_port, until

PROGRAMS = ("munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "sbatch", "sacct")

SLURM_CONF = """\
ClusterName=quantexp
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=1
MessageTimeout=60
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting}
AccountingStoragePass={folder}/munge.socket
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverTimeLimit=0
"""
"""Jobs are told apart by their processes' parents: control groups and systemd are not there in a container."""

SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={accounting}
SlurmUser={user}
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""

USERS = """\
CREATE USER 'slurm'@'localhost' IDENTIFIED BY 'slurm';
CREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
GRANT ALL ON slurm.* TO 'slurm'@'localhost';
GRANT ALL ON slurm.* TO 'slurm'@'127.0.0.1';
"""


class SlurmCluster:
    """The five daemons, from `with` to its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self.environment["PATH"] = os.pathsep.join([self.environment["PATH"], "/usr/sbin", "/sbin"])

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop()

    def command(self, *command: str) -> str:
        """What one of Slurm's commands prints."""
        ended = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{command}: {ended.stderr}"
        return ended.stdout.strip()

    def _start(self) -> None:
        folder, user = self.folder, getpass.getuser()
        folder.chmod(0o755)
        facts = {
            "folder": folder,
            "user": user,
            "host": platform.node(),
            "cpus": psutil.cpu_count(),
            "memory": int(psutil.virtual_memory().total / 2**20),
            **{name: free_port() for name in ("controller", "node", "accounting", "database")},
        }
        for name in ("state", "spool", "db"):
            (folder / name).mkdir()
        (folder / "slurm.conf").write_text(SLURM_CONF.format(**facts))
        (folder / "slurmdbd.conf").write_text(SLURMDBD_CONF.format(**facts))
        (folder / "slurmdbd.conf").chmod(0o600)
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        (folder / "users.sql").write_text(USERS)
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)

        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
        files["seed-file"] = "munge.seed"
        self._daemon("munged", "--foreground", "--force", *(f"--{key}={folder / name}" for key, name in files.items()))
        self._wait("munged", (folder / "munge.socket").exists)
        at = f"--datadir={folder / 'db'}"
        self.command(
            "mariadb-install-db", "--no-defaults", at, f"--user={user}", "--auth-root-authentication-method=normal",
            "--skip-test-db",
        )  # fmt: skip
        self._daemon(
            "mariadbd", "--no-defaults", at, f"--user={user}", f"--socket={folder / 'db.socket'}",
            f"--port={facts['database']}", "--bind-address=127.0.0.1", f"--init-file={folder / 'users.sql'}",
            "--innodb-buffer-pool-size=64M", f"--log-error={folder / 'db.log'}", f"--pid-file={folder / 'db.pid'}",
        )  # fmt: skip
        self._wait("MariaDB", (folder / "db.socket").exists)
        self._daemon("slurmdbd", "-D")
        self._wait("slurmdbd", lambda: self._ask("sacctmgr", "--noheader", "list", "cluster") is not None)
        self._daemon("slurmctld", "-D", "-c")
        self._daemon("slurmd", "-D", "-N", str(facts["host"]))
        self._wait("the node", lambda: "idle" in (self._ask("sinfo", "--noheader", "--format=%T") or ""))
        # Jobs that end before this are never accounted for, and submitit would wait for them for ever.
        accounted = ("sacctmgr", "--noheader", "list", "cluster")
        self._wait("the accounting", lambda: "quantexp" in (self._ask(*accounted) or ""))

    def _ask(self, *command: str) -> str | None:
        """Return what a command prints; None while nobody answers it."""
        ended = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return ended.stdout if ended.returncode == 0 else None

    def _wait(self, what: str, is_so: Callable[[], bool]) -> None:
        """Wait for something, while the daemon that was started last runs."""
        until(what, is_so, process=self._daemons[-1], log=self._read_logs)

    def _read_logs(self) -> str:
        """Return the end of what each daemon has written."""
        logs = sorted([*self.folder.glob("*.out"), *self.folder.glob("*.log")])
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-SHOWN // len(logs) :]}" for path in logs)

    def _daemon(self, program: str, *arguments: str) -> None:
        path = shutil.which(program, path=self.environment["PATH"])
        assert path, program
        with (self.folder / f"{program}.out").open("wb") as out:
            self._daemons.append(
                subprocess.Popen([path, *arguments], env=self.environment, stdout=out, stderr=out, cwd=self.folder)
            )

    def _stop(self) -> None:
        """The last one started first; what a daemon has started goes with it."""
        for daemon in reversed(self._daemons):
            started = psutil.Process(daemon.pid).children(recursive=True) if daemon.poll() is None else []
            daemon.terminate()
            try:
                daemon.wait(timeout=60)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
            for process in started:
                if process.is_running():
                    process.kill()


def missing_programs() -> list[str]:
    """The programs of Slurm, munge and MariaDB that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
