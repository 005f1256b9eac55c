"""How a stop arrives here: who stands between it and us, and how long a small worker takes to heed it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from worker.doctor.facts import Signals
from worker.queue import layout

SHELLS = ("sh", "bash", "dash", "zsh", "ash", "ksh")
TASKS = Path(__file__).parents[1] / "trial/tasks"
ITEMS = 400
LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Ancestor:
    pid: int
    name: str
    command: str


def look(start: Sequence[str] = (sys.executable, "-m", "worker")) -> Signals:
    above = ancestors()
    first = above[-1].command if above else ""
    blocked = [one.name for one in _blocked() if isinstance(one, signal.Signals)]
    shell, trial = deaf(above), _Trial(start)
    try:
        after, ended = trial.run()
        return Signals(first, shell, blocked, after, ended)
    except (_Failed, OSError) as error:
        return Signals(first, shell, blocked, trial_wrong=str(error))


def deaf(above: Sequence[Ancestor]) -> str | None:
    """The shell that a container's engine or SLURM stops in our stead, and that passes nothing on."""
    for one, over in zip_longest(above, above[1:]):
        told = one.pid == 1 or (over is not None and over.name.startswith("slurmstepd"))
        if told and one.name in SHELLS:
            return one.command
    return None


def ancestors(proc: Path = Path("/proc")) -> list[Ancestor]:
    """Ours, as far as we may look."""
    found: list[Ancestor] = []
    pid = os.getppid()
    while pid > 0:
        try:
            name = (proc / str(pid) / "comm").read_text().strip()
            words = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")
            parent = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            break
        command = b" ".join(words).decode(errors="replace").strip()[:120] or name
        found.append(Ancestor(pid, name, command))
        pid = int(parent)
    return found


def _blocked() -> set[signal.Signals | int]:
    """A mask goes through fork and exec: who blocked them blocked them for us too."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return {one for one in mask if one in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}


class _Failed(Exception):
    """The small worker did not come as far as to be stopped."""


class _Trial:
    """A worker on a queue of its own, stopped in the middle."""

    def __init__(self, start: Sequence[str]) -> None:
        self._start = start

    def run(self) -> tuple[float, float]:
        """Seconds until its claim was handed back, and until it had ended."""
        with tempfile.TemporaryDirectory(prefix="worker-doctor-", ignore_cleanup_errors=True) as folder:
            queue, said = Path(folder, "queue"), Path(folder, "said")
            items = [str(number) for number in range(ITEMS)]
            environment = {k: v for k, v in os.environ.items() if not k.startswith("WORKER_")}
            environment |= {"WORKER_TASKS": str(TASKS), "TMPDIR": folder}
            with said.open("wb") as out:
                process = subprocess.Popen(
                    [*self._start, "run", str(queue), "--task", "doctor-trial", "--children", "1", *items],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env=environment,
                    start_new_session=True,
                )
            try:
                return self._stopped(process, queue)
            except _Failed as error:
                lines = said.read_text(errors="replace").splitlines()
                raise _Failed(f"{error}{f': {lines[-1]}' if lines else ''}") from None
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _stopped(self, process: subprocess.Popen[bytes], queue: Path) -> tuple[float, float]:
        def claimed() -> bool:
            return any((queue / layout.CLAIMS).glob("*/*.json"))

        def released() -> bool:
            return any((queue / layout.CLAIMS).glob("*/*.released"))

        _until(claimed, process, "it claimed nothing")
        time.sleep(0.05)  # into its first item
        began = time.monotonic()
        process.terminate()
        _until(released, process, "it handed nothing back", ended=True)
        after = time.monotonic() - began
        try:
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise _Failed(f"it did not end in {LIMIT_S:g} s") from None
        return after, time.monotonic() - began


def _until(
    question: Callable[[], bool], process: subprocess.Popen[bytes], wrong: str, *, ended: bool = False
) -> None:
    """`ended`: that it has ended is no surprise."""
    until = time.monotonic() + LIMIT_S
    while not question():
        if process.poll() is not None and not (ended and question()):
            raise _Failed(f"{wrong} and ended with {process.returncode}")
        if time.monotonic() > until:
            raise _Failed(f"{wrong} in {LIMIT_S:g} s")
        time.sleep(0.005)
