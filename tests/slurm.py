"""A real SLURM on this machine: munged, slurmctld and a slurmd for each node, in a folder of their own.

All of it is started by a process that lives below the test's, and that takes in whatever loses its parent:
the steps of jobs and their processes too. It ends them all when its pipe closes, so not even a test that is
killed leaves anything behind."""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.servers import free_port
from tests.workers import ROOT, TASKS, eventually

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")
SBIN = "/usr/sbin:/usr/local/sbin:/sbin"
KILL_WAIT_S = 5
HERE = socket.gethostname().partition(".")[0]
NODES = (HERE, f"{HERE}-other")
"""in SLURM's order: the nodes of a training look for the first one by its name"""
GPUS = 4
"""of each node: terminals, which SLURM gives away like any device"""
BECOME_REAPER = 36
"""PR_SET_CHILD_SUBREAPER"""
DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG"""
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY"}

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu
JobRequeue=1
KillWait={kill_wait}
ReturnToService=2
SlurmdTimeout=10
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/history.txt
{nodes}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


@dataclass(frozen=True)
class Job:
    """As `squeue` shows it; of an array one for each task."""

    id: str
    """12, or 12_3"""
    state: str
    reason: str
    node: str
    restarts: int


@dataclass(frozen=True)
class Slurm:
    """Partitions `low` (the default) and `high`, whose jobs put those of `low` back into the line."""

    folder: Path
    submitted: list[str] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        """For commands that ask it. Of the developer's environment no WORKER_… and no SLURM_… counts."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("WORKER_", "SLURM_", "SBATCH_"))}
        own = {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:{SBIN}",
            "PYTHONPATH": str(ROOT),
            "WORKER_TASKS": str(TASKS),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return {**clean, **own}

    def ask(self, *command: object, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
        """What it prints; an error is the test's."""
        ended = subprocess.run(
            [str(word) for word in command],
            env={**self.env, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def sbatch(self, *words: object, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
        """→ the job's number"""
        job = self.ask("sbatch", "--parsable", *words, env=env, cwd=cwd).strip()
        self.submitted.append(job)
        return job

    def jobs(self, job: str = "") -> list[Job]:
        """Those that are not over, and for a moment those that are."""
        form = "JobArrayID:64|,State:32|,Reason:64|,NodeList:64|,RestartCnt:16|"
        told = self.ask("squeue", "--noheader", "--array", "--states=all", f"--Format={form}")
        found = []
        for line in told.splitlines():
            name, state, reason, node, restarts = (word.strip() for word in line.split("|")[:5])
            if not job or name == job or name.startswith(f"{job}_"):
                found.append(Job(name, state, reason, node, int(restarts)))
        return sorted(found, key=lambda one: one.id)

    def job(self, name: str) -> Job:
        return next(one for one in self.jobs(name) if one.id == name)

    def running(self, job: str, count: int = 1, seconds: float = 60) -> list[Job]:
        def look() -> list[Job]:
            found = [one for one in self.jobs(job) if one.state == "RUNNING"]
            return found if len(found) >= count else []

        return eventually(look, seconds)

    def ended(self, job: str, seconds: float = 120) -> dict[str, str]:
        """Waits for all of it; → task or job: how it ended."""

        def look() -> dict[str, str]:
            found = {one.id: one.state for one in self.jobs(job)}
            return found if found and set(found.values()) <= OVER else {}

        return eventually(look, seconds)

    def exit_code(self, job: str) -> int:
        """Of the batch script; 128 and more: the signal that ended it"""
        told = self.ask("scontrol", "--oneliner", "show", "job", job)
        code, _, number = told.partition("ExitCode=")[2].split()[0].partition(":")
        return int(code) or (128 + int(number) if int(number) else 0)

    def kill(self, node: str) -> None:
        """As when its power fails: slurmd, the steps there and all that they started, at once."""
        for pid in (*_of_node(self.folder, node), *_of_node(self.folder, node)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def start(self, node: str) -> None:
        """Again, after `kill`."""
        self.folder.joinpath("wanted").joinpath(node).touch()
        self.idle([node])

    def idle(self, nodes: Sequence[str] = NODES, seconds: float = 60) -> None:
        def ready() -> bool:
            told = self.ask("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()
            return all(f"{node} idle" in told for node in nodes)

        eventually(ready, seconds)

    def preempt(self, node: str, seconds: float = 0.5) -> None:
        """A job that counts more takes all of this node for a while; → it is over."""
        wanted = ("--partition=high", f"--nodelist={node}", "--exclusive", "--output=/dev/null")
        self.ended(self.sbatch(*wanted, "--wrap", f"sleep {seconds}"))

    def cancel(self, jobs: Sequence[str]) -> None:
        """And wait until they are gone from their nodes."""
        if jobs:
            self.ask("scancel", *jobs)
        for job in jobs:
            eventually(lambda job=job: {one.state for one in self.jobs(job)} <= OVER)


def why_not() -> str:
    """Empty: it can be started here."""
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    absent = [one for one in PROGRAMS if not shutil.which(one, path=path)]
    return f"no SLURM here ({', '.join(absent)}); as root, tests/servers.sh installs it" if absent else ""


@contextmanager
def cluster() -> Iterator[Slurm]:
    if why := why_not():
        pytest.skip(why)
    # short, for the socket's name has 108 characters at most
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        write(folder)
        with open(folder / "daemons.log", "wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.slurm", name],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        slurm = Slurm(folder)
        try:
            eventually((folder / "started").exists)
            eventually(lambda: process.poll() is not None or _answers(slurm))
            assert process.poll() is None, (folder / "daemons.log").read_text()
            slurm.idle()
            yield slurm
        finally:
            assert process.stdin
            process.stdin.close()
            process.wait(30)


def write(folder: Path) -> None:
    """Its configuration, and the key by which its parts know each other."""
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    for name in ("state", "wanted", *NODES):
        (folder / name).mkdir()
    nodes = [
        f"NodeName={name} NodeHostname={HERE} NodeAddr=127.0.0.1 Port={free_port()} CPUs=8 Gres=gpu:{GPUS}"
        for name in NODES
    ]
    settings = {"host": HERE, "port": free_port(), "user": pwd.getpwuid(os.getuid()).pw_name}
    told = CONFIG.format(folder=folder, nodes="\n".join(nodes), kill_wait=KILL_WAIT_S, **settings)
    (folder / "slurm.conf").write_text(told)
    gpus = f"Name=gpu Count={GPUS} File=/dev/tty[0-{GPUS - 1}]"
    (folder / "gres.conf").write_text("".join(f"NodeName={name} {gpus}\n" for name in NODES))


def _answers(slurm: Slurm) -> bool:
    with suppress(AssertionError):
        return bool(slurm.ask("sinfo", "--noheader"))
    return False


def _of_node(folder: Path, node: str) -> list[int]:
    """slurmd first, so that it starts nothing more; then who has its spool, and what they started."""
    told = json.loads((folder / "pids").read_text())
    tree = children()
    found = [told[node]] if node in told else []
    for pid in _below(os.getpid(), tree):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if f"SLURMD_NODENAME={node}".encode() in words:
                found += [pid, *(one for one in _above(pid, tree) if _is_step(one))]
    return found


def _is_step(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().startswith("slurmstepd")
    return False


def _above(pid: int, tree: Mapping[int, Sequence[int]]) -> Iterator[int]:
    parents = {child: parent for parent, born in tree.items() for child in born}
    while pid := parents.get(pid, 0):
        yield pid


def _below(pid: int, tree: Mapping[int, Sequence[int]]) -> Iterator[int]:
    for child in tree.get(pid, ()):
        yield child
        yield from _below(child, tree)


def children() -> dict[int, list[int]]:
    """Of every process."""
    found: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                found.setdefault(parent, []).append(int(folder.name))
    return found


def main(folder: Path) -> None:
    """The process above all of it. A file in `wanted` asks for that node again."""
    ctypes.CDLL(None).prctl(BECOME_REAPER, 1, 0, 0, 0)
    os.environ["PATH"] += f":{SBIN}"
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    try:
        pids = {name: _daemon(command) for name, command in _commands(folder).items() if name not in NODES}
        for node in NODES:
            (folder / "wanted" / node).touch()
        while _goes_on(folder, pids):
            pass
    finally:
        while born := list(_below(os.getpid(), children())):
            for pid in born:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                while os.waitpid(-1, 0):
                    pass


def _commands(folder: Path) -> dict[str, list[str]]:
    munge = ["munged", "--foreground", "--force", f"--key-file={folder}/munge.key"]
    munge += [f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid"]
    munge += [f"--seed-file={folder}/munge.seed", "--num-threads=2"]
    nodes = {name: ["slurmd", "-D", "-N", name] for name in NODES}
    return {"munge": munge, "slurmctld": ["slurmctld", "-D"], **nodes}


def _daemon(command: list[str]) -> int:
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, preexec_fn=lambda: ctypes.CDLL(None).prctl(DIE_WITH_PARENT, 9)
    ).pid


def _goes_on(folder: Path, pids: dict[str, int]) -> bool:
    import select

    with suppress(ChildProcessError):
        while ended := os.waitpid(-1, os.WNOHANG)[0]:
            if ended in (pids["munge"], pids["slurmctld"]):
                return False
    for node in NODES:
        wanted = folder / "wanted" / node
        if wanted.exists():
            wanted.unlink()
            if not Path(f"/proc/{pids.get(node, 0)}").exists():
                pids[node] = _daemon(_commands(folder)[node])
            (folder / "new").write_text(json.dumps(pids))
            (folder / "new").replace(folder / "pids")
            (folder / "started").touch()
    readable, _, _ = select.select([sys.stdin], [], [], 0.2)
    return not (readable and not os.read(0, 1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
