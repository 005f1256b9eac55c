"""What ssh, rsync, sbatch and a foreign machine say when they refuse, with the remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence

from worker.errors import MachineError, UnfinishedError, WorkerError
from worker.harmless import harmless
from worker.redact import redact

HERE = "this machine"
KNOWN: Sequence[tuple[str, str]] = (
    (
        r"host key verification failed|remote host identification has changed",
        "its host key is not known here, or another one: `ssh {host}` once by hand, and compare the key",
    ),
    (
        r"permission denied \((?!\d)|too many authentication failures|no supported authentication",
        "it refuses our key, and nobody can type a password here: ssh-copy-id {host}, or share a connection",
    ),
    (r"could not resolve hostname|name or service not known", "there is no such server: see --host"),
    (
        r"connection (?:refused|timed out)|no route to host|network is unreachable|operation timed out",
        "it cannot be reached: is it on, and is the port right (--host user@server:port)?",
    ),
    (r"rsync: (?:command )?not found|rsync: command not found", "rsync is not installed there, or here"),
    (r"sbatch: (?:command )?not found", "there is no SLURM in PATH"),
    (r"no space left on device|disk quota exceeded", "its disk is full, or your quota: name another --dir"),
    (
        r"client_loop|broken pipe|connection (?:to .* |unexpectedly )?(?:closed|reset)|\(code 255\)",
        "the connection broke; nothing is lost: the same command goes on",
    ),
    (
        r"symlink has no referent|file has vanished|(?:send_files|link_stat|opendir)\b.*\(\d+\)$",
        "the others are brought: mend this one, and type it again",
    ),
    (
        r"read-only file system|cannot create directory|(?:mkdir|mkstemp|recv_generator).*permission denied",
        "that folder cannot be written: name another --dir",
    ),
    (r"invalid partition", "`sinfo` lists the partitions: --partition"),
    (
        r"invalid account|account/partition combination",
        "`sacctmgr show associations user=$USER` lists yours: --account, and perhaps --partition",
    ),
    (r"invalid qos", "`sacctmgr show associations user=$USER format=qos` lists yours: --qos"),
    (
        r"requested time limit is invalid|time limit",
        "`sinfo -o '%P %l'` shows how long one may last: --time-limit",
    ),
    (
        r"invalid generic resource|\(gres\) specification",
        "`sinfo -o '%P %G'` shows the cards that there are: --gpus, --gpu-type",
    ),
    (
        r"requested node configuration is not available|more processors requested|memory specification",
        "no node is so large, or has such cards: less of --gpus, --cpus, --memory; --gpu-type, --partition",
    ),
    (r"node count specification invalid|nodes? .*not available", "fewer --nodes, or another --partition"),
    (
        r"job violates accounting|qos.*limit|association.*limit|maxsubmit",
        "your share is used up: fewer --workers, or wait until others of your jobs end",
    ),
    (
        r"unable to contact slurm controller|socket timed out|slurmctld",
        "SLURM does not answer: try again later, nothing is lost",
    ),
    (
        r"missing or older than 3\.11|python3?: (?:command )?not found|no such file.*python3",
        "it needs python 3.11 or newer: `module load python`, conda, or --venv DIR of one that is there",
    ),
)
AWAY = re.compile(r"cannot be reached|no such server|the connection broke|does not answer")
"""of a remedy: to wait may be enough"""
NOISE = re.compile(r"^(?:\s*$|warning: permanently added|rsync error: .*code 1?2\b|make: )", re.IGNORECASE)


def refused(said: str, host: str = "", code: int = 0) -> WorkerError:
    """What is to be raised: who watches waits for a machine, or a store, that is away."""
    line = refusal(said, host)
    is_away = code == UnfinishedError.exit_code or AWAY.search(line)
    return (UnfinishedError if is_away else MachineError)(line)


def refusal(said: str, host: str = "") -> str:
    """One line: the machine's own, and what to do."""
    host = host or HERE
    for words, remedy in KNOWN:
        for line in said.splitlines():
            if re.search(words, line, re.IGNORECASE):
                return _told(host, line, remedy.format(host=host))
    lines = [line for line in said.splitlines() if not NOISE.search(line)]
    return _told(host, lines[-1] if lines else "it ended without a word", "")


def _told(host: str, line: str, remedy: str) -> str:
    own = harmless(redact(" ".join(line.split())))
    return f"{host}: {own}; {remedy}" if remedy else f"{host}: {own}"
