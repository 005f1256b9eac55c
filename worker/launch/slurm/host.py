"""The machine whose SLURM, or whose cards, are used: this one, or another one by ssh.

What is said there is one line for a shell: words get into it through `quoted` alone. A login shell reads
it, for many clusters put sbatch and python into PATH only there; what it prints of itself is cut off."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.errors import MachineError, UnfinishedError, UsageError
from worker.launch.slurm.refusals import refused

MARK = "worker-launch-begins-here"
LIMIT_S = 120.0
BROKEN = 255
"""ssh's own; nothing of ours ends so"""
ALIVE = ("ServerAliveInterval=15", "ServerAliveCountMax=4")
"""a connection that died is noticed after a minute"""
KEPT_S = 60
"""a connection serves the next command, and the next `watch`"""
SHORT = 32
PARTS = "--partial-dir=.rsync-partial"
"""of a connection that broke: never under the file's own name"""
ADDRESS = re.compile(r"(?:[A-Za-z0-9_][\w.+-]*@)?[A-Za-z0-9_\[][\w.:\[\]-]*")


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    out: str = ""
    err: str = ""


@dataclass(frozen=True, slots=True)
class Address:
    """user@server:port; a name of ~/.ssh/config does too."""

    host: str
    port: str = ""

    @classmethod
    def of(cls, said: str) -> Address:
        host, colon, port = said.rpartition(":")
        if not colon or not port.isdecimal() or ":" in host.rstrip("]").partition("[")[0]:
            host, port = said, ""
        if not ADDRESS.fullmatch(host):
            raise UsageError(f"--host {said!r}: write user@server, or user@server:port")
        return cls(host, port)


def quoted(*words: str) -> str:
    """For a shell. A path that begins with ~/ lies in the home of whom the shell belongs to."""
    return " ".join(
        f'"$HOME"/{shlex.quote(word[2:])}' if word.startswith("~/") else shlex.quote(word) for word in words
    )


class Host:
    """Empty: this machine."""

    def __init__(self, address: str = "") -> None:
        self.name = address
        self._to = Address.of(address) if address else None

    @property
    def is_far(self) -> bool:
        return self._to is not None

    def run(self, script: str, *, stdin: str = "", limit_s: float | None = LIMIT_S) -> Said:
        """What it answers, whatever that is; only a machine that cannot be reached is an error."""
        if self._to is None:
            return _run(["bash", "-c", script], stdin, limit_s)
        inner = quoted("bash", "-lc", f"echo {MARK}; {script}")
        said = _run([*self._ssh(self._to), "--", self._to.host, inner], stdin, limit_s)
        before, mark, out = said.out.partition(f"{MARK}\n")
        if said.code == BROKEN:
            raise refused(said.err or "connection closed", self.name)
        return Said(said.code, out if mark else before, said.err)

    def need(self, script: str, *, stdin: str = "", limit_s: float | None = LIMIT_S) -> str:
        """What it prints; what went wrong is said in one line."""
        said = self.run(script, stdin=stdin, limit_s=limit_s)
        if said.code:
            raise refused(said.err or said.out, self.name, said.code)
        return said.out

    def bring(self, sources: Sequence[str], folder: str, *, options: Sequence[str] = (), cwd: Path) -> None:
        """What is there already, whole or in part, is not sent again."""
        self._rsync([PARTS, *options, "--", *sources, self._there(folder)], cwd)

    def bring_these(self, names: Sequence[str], folder: str, *, cwd: Path) -> None:
        """Files and folders below CWD, however many; links as what they lead to."""
        options = (PARTS, "-L", "--files-from=-", "--from0")
        # a name that begins with # or ; would be a comment
        listed = "\0".join(f"./{name}" for name in names)
        self._rsync([*options, "--", ".", self._there(folder)], cwd, listed)

    def fetch(self, folder: str, to: Path) -> None:
        to.mkdir(parents=True, exist_ok=True)
        self._rsync(["--", f"{self._there(folder)}/", f"{to.absolute()}/"], Path.cwd())

    def _there(self, folder: str) -> str:
        assert self._to
        return f"{self._to.host}:{folder}"

    def _rsync(self, words: Sequence[str], cwd: Path, stdin: str = "") -> None:
        assert self._to
        # paths reach the other rsync as they are, no shell between
        command = ["rsync", "-rlt", "--protect-args", "-e", shlex.join(self._ssh(self._to))]
        said = _run([*command, *words], stdin, None, cwd)
        if said.code:
            raise refused(said.err, self.name)

    def _ssh(self, to: Address) -> list[str]:
        options = ["BatchMode=yes", "ConnectTimeout=15", *ALIVE]
        if not _shares_already(to):
            options += ["ControlMaster=auto", f"ControlPath={_sockets()}/%C", f"ControlPersist={KEPT_S}"]
        port = ["-p", to.port] if to.port else []
        return ["ssh", *(word for option in options for word in ("-o", option)), *port]


def _shares_already(to: Address) -> bool:
    """A connection that its person opened, perhaps with a second factor, is used."""
    said = _run(["ssh", "-G", *(["-p", to.port] if to.port else []), "--", to.host], "", LIMIT_S)
    return bool(re.search(r"(?mi)^controlpath (?!none)", said.out))


def _sockets() -> Path:
    """Short, for a socket's path may have 100 letters; nobody else's, for who owns it owns the connection."""
    place = tempfile.gettempdir()
    folder = Path(place if len(place) <= SHORT else "/tmp", f"worker-ssh-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if about.st_uid != os.getuid() or about.st_mode & 0o077 or folder.is_symlink():
        raise MachineError(f"{folder} is not ours alone: remove it")
    return folder


def _run(words: Sequence[str], stdin: str, limit_s: float | None, cwd: Path | None = None) -> Said:
    # a connection that stays keeps a pipe of stderr open: a file ends with its command
    with tempfile.TemporaryFile() as err:
        try:
            ended = subprocess.run(
                words,
                input=stdin.encode(),
                stdout=subprocess.PIPE,
                stderr=err,
                timeout=limit_s,
                check=False,
                cwd=cwd,
            )
        except FileNotFoundError:
            raise refused(f"{words[0]}: command not found") from None
        except subprocess.TimeoutExpired:
            raise UnfinishedError(f"{words[0]} has said nothing for {limit_s:g} s: try again") from None
        err.seek(0)
        return Said(
            ended.returncode, ended.stdout.decode(errors="replace"), err.read().decode(errors="replace")
        )
