"""A whole SLURM on the loopback interface of this machine: controller, nodes, keys and state in one folder.

Needs Debian's ``slurm-wlm`` and ``munge`` and nothing else: no systemd, no control groups, no data base.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
SYSTEM_FOLDERS = "/usr/sbin:/sbin:/usr/local/sbin"
"""Where daemons are, often outside the PATH of a user."""
NODES = 2
CPUS = 2
"""Processors of each node.  The machine may have two in all: the job of the driver waits most of the time,
and two workers beside it are what a user has; so more are promised than there are."""
MEMORY_MB = 8000
"""Memory of each node, promised: nothing enforces it without control groups."""
READY_S = 60.0


def program(name: str) -> str | None:
    """Path of a program, also outside the PATH."""
    return shutil.which(name) or shutil.which(name, path=SYSTEM_FOLDERS)


def missing() -> list[str]:
    """Programs that are not installed."""
    return [name for name in (*PROGRAMS, *COMMANDS) if program(name) is None]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all are held open while choosing."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            ports.append(one.getsockname()[1])
        return ports


def running(pid: int, name: str) -> bool:
    """Whether a process still is the program of that name; the dead that nobody waited for do not count."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z" and Path(command).name == name


class Slurm:
    """A running SLURM; ``environment`` finds it.

    Parameters
    ----------
    folder
        Empty folder; sockets live in it, so its path must be short.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        for name in ("state", "spool", "run", "log"):
            (folder / name).mkdir()
        for number in range(1, NODES + 1):
            (folder / "spool" / f"n{number}").mkdir()
        self._started: list[tuple[str, Path]] = []
        """(program, file with its process number), in the order of their start."""

    @property
    def environment(self) -> dict[str, str]:
        """Environment of processes that use it: no trace of another batch job."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "SRUN_"))}
        return {**clean, "SLURM_CONF": str(self.conf)}

    def run(self, *command: str, check: bool = True) -> str:
        """Output of a command of SLURM."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    # -- start ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all daemons and wait until every node is idle."""
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        run, log = self.folder / "run", self.folder / "log"
        self._daemon(
            "munged",
            run / "munged.pid",
            f"--socket={run}/munge.socket",
            f"--key-file={key}",
            f"--log-file={log}/munged.log",
            f"--pid-file={run}/munged.pid",
            f"--seed-file={run}/munge.seed",
            "--force",
        )
        self.conf.write_text(self._configuration(), encoding="utf-8")
        self._daemon("slurmctld", run / "slurmctld.pid", "-c", "-f", str(self.conf))
        for number in range(1, NODES + 1):
            node = f"n{number}"
            self._daemon("slurmd", run / f"slurmd-{node}.pid", "-f", str(self.conf), "-N", node)
        deadline = time.monotonic() + READY_S
        states: list[str] = []
        while time.monotonic() < deadline:
            states = self.run("sinfo", "-h", "-N", "-o", "%T", check=False).split()
            if states == ["idle"] * NODES:
                return
            time.sleep(0.1)
        text = (log / "slurmctld.log").read_text(encoding="utf-8", errors="replace")
        raise AssertionError(f"the nodes are {states} after {READY_S:.0f} s; slurmctld: {text[-2000:]}")

    def _daemon(self, name: str, pid_file: Path, *arguments: str) -> None:
        found = program(name)
        assert found is not None
        self._started.append((name, pid_file))
        done = subprocess.run(
            [found, *arguments], env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise AssertionError(f"{name} does not start: {done.stderr or done.stdout}")

    def _configuration(self) -> str:
        host = socket.gethostname().partition(".")[0]
        user = pwd.getpwuid(os.getuid()).pw_name
        controller, *nodes = free_ports(NODES + 1)
        here = self.folder
        lines = [
            "ClusterName=test",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmctldPort={controller}",
            f"SlurmUser={user}",
            f"SlurmdUser={user}",
            "AuthType=auth/munge",
            f"AuthInfo=socket={here}/run/munge.socket",
            f"StateSaveLocation={here}/state",
            f"SlurmdSpoolDir={here}/spool/%n",
            f"SlurmctldPidFile={here}/run/slurmctld.pid",
            f"SlurmdPidFile={here}/run/slurmd-%n.pid",
            f"SlurmctldLogFile={here}/log/slurmctld.log",
            f"SlurmdLogFile={here}/log/slurmd-%n.log",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "JobAcctGatherType=jobacct_gather/linux",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core_Memory",
            "SlurmdParameters=config_overrides",
            # Without these two the daemons listen on every interface of the machine.
            "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",
            "SchedulerParameters=sched_interval=1,bf_interval=2,batch_sched_delay=0,sched_min_interval=0",
            "MpiDefault=none",
            "ReturnToService=2",
            "MinJobAge=300",
            "KillWait=2",
            "JobCompType=jobcomp/filetxt",
            f"JobCompLoc={here}/log/jobcomp.txt",
        ]
        for number, port in enumerate(nodes, start=1):
            lines.append(
                f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} "
                f"Sockets=1 CoresPerSocket={CPUS} ThreadsPerCore=1 RealMemory={MEMORY_MB}"
            )
        lines.append(
            f"PartitionName=main Nodes=n[1-{NODES}] Default=YES DefaultTime=60 MaxTime=INFINITE State=UP"
        )
        return "\n".join(lines) + "\n"

    # -- jobs -------------------------------------------------------------------------------

    def jobs(self, prefix: str = "") -> list[tuple[str, str, str]]:
        """(id, name, state) of jobs that wait or run and whose name begins with a text."""
        rows = [line.split("|") for line in self.run("squeue", "-h", "-o", "%i|%j|%T").splitlines()]
        return [(i, name, state) for i, name, state in rows if name.startswith(prefix)]

    def state_of(self, job: str) -> dict[str, str]:
        """What the controller knows of a job, also some time after its end."""
        words = self.run("scontrol", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, job: str, timeout: float) -> dict[str, str]:
        """What became of a job, once it has ended."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            found = self.state_of(job)
            if found["JobState"] not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED"):
                return found
            time.sleep(0.3)
        raise AssertionError(f"job {job} is still {found['JobState']} after {timeout:.0f} s")

    # -- end --------------------------------------------------------------------------------

    def stop(self) -> None:
        """Cancel all jobs, then end every process that was started, by its number."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired, OSError):
            jobs = [job for job, _, _ in self.jobs()]
            if jobs:
                self.run("scancel", *jobs, check=False)
            deadline = time.monotonic() + 30.0
            while self.jobs() and time.monotonic() < deadline:
                time.sleep(0.2)
        for name, pid_file in reversed(self._started):
            self._end(name, pid_file)

    def _end(self, name: str, pid_file: Path) -> None:
        try:
            pid = int(pid_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + 10.0
            if running(pid, name):
                os.kill(pid, number)
            while running(pid, name) and time.monotonic() < deadline:
                time.sleep(0.05)
