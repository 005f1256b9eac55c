"""The processes of a SLURM for tests (slurm.py): munged, slurmctld and a slurmd for each node.

They live below one that takes in whatever loses its parent: the steps of jobs and their processes too. It
ends them all when its pipe closes, so not even a test that is killed leaves anything behind."""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.servers import free_port

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
        while born := list(_below(os.getpid(), _children())):
            for pid in born:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.02)  # and look again: what died may have started one more meanwhile
        # its pipe is closed: who was killed cannot do it, and has perhaps not lost its children yet
        if select.select([sys.stdin], [], [], 0)[0]:
            shutil.rmtree(folder, ignore_errors=True)


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


def of_node(folder: Path, node: str) -> list[int]:
    """slurmd first, so that it starts nothing more; then processes of jobs, and the steps above them."""
    told = json.loads((folder / "pids").read_text())
    tree = _children()
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


def _children() -> dict[int, list[int]]:
    """Of every process."""
    found: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                found.setdefault(parent, []).append(int(folder.name))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
