"""A real SLURM of two nodes on this machine, in a folder of its own. slurm_daemons.py starts and ends it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.slurm_daemons import NODES, SBIN, of_node, write
from tests.workers import ROOT, TASKS, eventually

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY"}


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
        for _ in range(2):  # what was just being started, too
            for pid in of_node(self.folder, node):
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
                [sys.executable, "-m", "tests.slurm_daemons", name],
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


def _answers(slurm: Slurm) -> bool:
    with suppress(AssertionError):
        return bool(slurm.ask("sinfo", "--noheader"))
    return False
