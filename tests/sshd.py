"""A real SSH server on loopback, with keys and a home of its own: another machine, as a launcher sees it."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("sshd", "ssh", "ssh-keygen", "rsync")
PATHS = f"{os.environ['PATH']}:/usr/sbin:/sbin"
NAME = "over-there"

BREAKER = """#!/bin/bash
# {name}, after or instead of which the connection dies, once
if rm {flag} 2>/dev/null; then
    {run}
    code=$?
    up=$$
    while [ "$up" -gt 1 ] && [ "$(cat /proc/$up/comm)" != sshd ]; do
        up=$(sed 's/.*) //' /proc/$up/stat | cut -d' ' -f2)
    done
    kill -9 "$up"
    exit $code
fi
exec {real} "$@"
"""


def missing() -> str:
    """Why there is none here; empty: there can be one."""
    absent = [name for name in NEEDED if shutil.which(name, path=PATHS) is None]
    return f"{', '.join(absent)} not installed (openssh-server, openssh-client, rsync)" if absent else ""


@dataclass(frozen=True)
class Sshd:
    folder: Path
    port: int

    @property
    def home(self) -> Path:
        """Of whom logs in."""
        return self.folder / "home"

    @property
    def bin(self) -> Path:
        """First in PATH of whom logs in."""
        return self.folder / "there"

    @property
    def environment(self) -> dict[str, str]:
        """Of a client: its ssh knows the server, and the key."""
        return {
            **os.environ,
            "PATH": f"{self.folder / 'here'}:{os.environ['PATH']}",
            "TMPDIR": str(self.folder),
        }

    def breaks_at(self, name: str, *, runs: bool = True, said: int = 0) -> None:
        """The next time that NAME is called there, the connection dies after it (or instead of it; or once it
        SAID so many bytes)."""
        flag = self.folder / f"break-{name}"
        flag.touch()
        real = shutil.which(name, path=PATHS)
        run = f'{real} "$@"' if runs else "true"
        if said:
            run = f'exec 3<&0; stdbuf -o0 head -c {said} < <({real} "$@" <&3)'
        self.program(self.bin / name, BREAKER.format(name=name, run=run, real=real, flag=flag))

    @staticmethod
    def program(file: Path, text: str) -> None:
        file.write_text(text)
        file.chmod(0o755)

    def lacks(self, name: str) -> None:
        self.program(
            self.bin / name, f"#!/bin/sh\necho 'bash: line 1: {name}: command not found' >&2\nexit 127\n"
        )


@contextmanager
def sshd(folder: Path, environment: Mapping[str, str]) -> Iterator[Sshd]:
    """`environment`: of whom logs in. FOLDER is short: a socket's path has 100 letters at most."""
    server = Sshd(folder, _free_port())
    for place in (server.home, server.bin, folder / "here"):
        place.mkdir(parents=True, exist_ok=True)
    for key in ("host", "client"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True, timeout=60
        )
    (server.home / ".profile").write_text(f'PATH={server.bin}:"$PATH"\necho a banner of the login shell\n')
    said = {"HOME": str(server.home), "PATH": f"{server.bin}:{PATHS}", **environment}
    (folder / "sshd_config").write_text(
        f"Port {server.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/client.pub\nStrictModes no\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 100\n"
        "SetEnv " + " ".join(f'"{name}={value}"' for name, value in said.items()) + "\n"
    )
    known = (folder / "host.pub").read_text().split()
    (folder / "known").write_text(f"[127.0.0.1]:{server.port} {known[0]} {known[1]}\n")
    (folder / "ssh_config").write_text(
        f"Host {NAME}\n    HostName 127.0.0.1\n    Port {server.port}\n    User {getpass.getuser()}\n"
        f"Host *\n    IdentityFile {folder}/client\n    IdentitiesOnly yes\n"
        f"    UserKnownHostsFile {folder}/known\n"
    )
    server.program(
        folder / "here/ssh", f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n'
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it locks itself in
    command = [str(shutil.which("sshd", path=PATHS)), "-D", "-e", "-f", str(folder / "sshd_config")]
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
    try:
        _wait(server.port, process, folder / "sshd.log")
        yield server
    finally:
        for socket_of in (folder / f"worker-ssh-{os.getuid()}").glob("*"):
            subprocess.run(
                ["ssh", "-o", f"ControlPath={socket_of}", "-O", "exit", NAME],
                capture_output=True,
                check=False,
            )
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise RuntimeError(f"sshd ended: {log.read_text()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"sshd does not answer: {log.read_text()}")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
