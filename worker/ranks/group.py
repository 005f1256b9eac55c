"""The ranks of one node: torchrun starts them, and each has a line to us, who started it."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from worker.child import STOP_SIGNALS
from worker.ranks.channel import Channel, Readable, ready
from worker.ranks.nodes import Node
from worker.ranks.words import DIED, Answered, Begin, Hello, Over, Raised, Word

LIFE, LINE = "life", "line"
"""sockets: what closes when we die, or want the ranks dead; where they speak"""
LONGEST = 90
"""characters: a socket's path has at most 108"""
PENDING = 1024
LOOK_S = 0.2
"""between two looks at whether torchrun has ended"""
END_S = 10.0
"""for torchrun to see how its ranks ended"""
FAREWELL_S = 60.0
"""for ranks that are done, and for torchrun to see it"""

log = logging.getLogger(__name__)


class Group:
    def __init__(self, begin: Begin, node: Node, ranks: int, port: int, scratch: Path) -> None:
        """`port`: of torchrun's meeting on the first node, if there are several."""
        self._begin = begin
        self._ranks = ranks
        self._folder = _short(scratch)
        self._life, self._listener = self._listen(LIFE), self._listen(LINE)
        self._output = (self._folder / "torchrun.log").open("wb+")
        self._lines: dict[Channel, int] = {}
        self._pids: dict[int, int] = {}
        """rank → process"""
        self._left: set[Channel] = set()
        """said goodbye"""
        self._process = self._start(node, port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for line in self._lines:
            line.close()
        self._listener.close()
        self._output.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def line(self, rank: int) -> Channel | None:
        return next((line for line, whose in self._lines.items() if whose == rank), None)

    def hear(self, also: Sequence[Readable] = ()) -> list[tuple[int, Word]]:
        """What ranks said, after a moment at most; of one that is gone without a word, that."""
        those: list[Readable] = [self._listener, *self._lines, *also]
        speaking = ready(those, LOOK_S)
        if self._listener in speaking:
            self._accept()
        heard = [one for line in [*self._lines] if line in speaking for one in self._words(line)]
        if not heard and not self._lines and self._process.poll() is not None and not self._left:
            heard = [(-1, Raised(-1, f"torchrun ended before its processes began: {self._last_words()}"))]
        return heard

    def finish(self) -> None:
        """All is said; they end by themselves."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(FAREWELL_S)

    def kill(self) -> None:
        """The ranks die as this closes; then torchrun ends, as after any death."""
        self._life.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def explained(self, end: Raised) -> Raised:
        """Once all are killed: torchrun is their parent, and the only one that is told how each ended."""
        code = exit_code(self._told(), self._pids.get(end.rank, 0)) if end.kind == DIED else None
        if not code:
            return end
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"died with exit status {code}"
        return replace(end, text=f"rank {end.rank} {how}")

    def _listen(self, name: str) -> socket.socket:
        one = socket.socket(socket.AF_UNIX)
        one.bind(str(self._folder / name))
        one.listen(PENDING)  # nobody is ever let in to the first: to wait at the door is enough
        return one

    def _start(self, node: Node, port: int) -> subprocess.Popen[bytes]:
        meeting = ["--standalone", "--local-addr", "127.0.0.1"]
        if node.count > 1:
            meeting = ["--nnodes", str(node.count), "--node-rank", str(node.rank)]
            meeting += ["--master-addr", node.host, "--master-port", str(port)]
        threads = max(1, len(os.sched_getaffinity(0)) // self._ranks)
        # a scheduler's SIGTERM may reach every process; who is stopped, and when, we say
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "torch.distributed.run"),
                    *("--nproc-per-node", str(self._ranks), "--max-restarts", "0", *meeting),
                    *("-m", "worker.ranks.rank", str(self._folder)),
                ],
                env={"OMP_NUM_THREADS": str(threads), **os.environ},
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _accept(self) -> None:
        line, _ = self._listener.accept()
        with suppress(OSError):  # it is gone already
            socket.send_fds(line, [b"!"], [sys.stderr.fileno()])
        self._lines[Channel(line)] = -1

    def _words(self, line: Channel) -> list[tuple[int, Word]]:
        heard: list[tuple[int, Word]] = []
        for word in line.arrived():
            if isinstance(word, Hello):
                self._lines[line] = word.rank
                self._pids[word.rank] = word.pid
                line.send(self._begin)
            elif isinstance(word, Raised | Answered | Over):
                self._left.add(line)
            heard.append((self._lines[line], word))
        if line.ended:
            rank = self._lines.pop(line)
            if line not in self._left:
                self._left.add(line)
                who = f"rank {rank}" if rank >= 0 else f"a rank that was not there yet ({self._last_words()})"
                heard.append((rank, Raised(rank, f"{who} died", DIED)))
            line.close()
        return heard

    def _last_words(self) -> str:
        lines = [line for line in self._told().splitlines() if line.strip()]
        return lines[-1].strip()[:300] if lines else "it said nothing"

    def _told(self) -> str:
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")


def exit_code(log: str, pid: int) -> int | None:
    """Of a process, as torchrun tells it."""
    found = re.search(rf"exitcode *: (-?\d+)\)? (?:local_rank: \d+ )?\(pid: {pid}\)", log)
    return int(found[1]) if found else None


def _short(scratch: Path) -> Path:
    """Beside what the job has, if a socket's path may be so long."""
    place = scratch if len(str(scratch)) < LONGEST - 20 else Path("/tmp")
    return Path(tempfile.mkdtemp(prefix="ranks-", dir=place))
