"""Where the files of a launch lie: a folder of ours, with the worker itself and a room for each launch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from worker.errors import UsageError
from worker.launch import native
from worker.launch.here import CHECKOUT
from worker.launch.launch import Launch
from worker.launch.machine import Machine
from worker.launch.order import NAME, Order, read_profile
from worker.launch.slurm.host import Host, quoted

MARK = ".made-by-worker-launch"
"""what has it may be deleted"""
ALL, WORKER = "all", "worker"
"""what stands in it; of a launch, its receipt's own word"""
FACTS = (
    'echo "home=$HOME"; [ -w /root/autodl-tmp ] && echo disk=/root/autodl-tmp; '
    "sbatch --version >/dev/null 2>&1 && echo slurm=yes; "
    'command -v nvidia-smi >/dev/null && echo "cards=$(nvidia-smi -L 2>/dev/null | grep -c ^GPU)"; '
    'echo "hub=${HF_HOME:+yes}"'
)


@dataclass(frozen=True, slots=True)
class Place:
    """On the machine where the launch is submitted."""

    folder: str
    name: str
    checkout: str
    """the worker's own files"""
    venv: str
    environment: Mapping[str, str]
    """of a rented machine: where models go"""
    is_far: bool
    given: str = ""
    """a queue that a person named"""

    @property
    def room(self) -> str:
        return f"{self.folder}/{self.name}"

    @property
    def queue(self) -> str:
        return self.given or f"{self.room}/queue"

    @property
    def inputs(self) -> str:
        return f"{self.room}/inputs"

    @property
    def results(self) -> str:
        return f"{self.room}/results"

    @property
    def log(self) -> str:
        return f"{self.room}/log"

    @property
    def worker(self) -> str:
        """For a shell: the command line there."""
        python = self.venv if self.venv.startswith(("/", "~")) else f"{self.checkout}/{self.venv}"
        return f"cd {quoted(self.checkout)} && {quoted(f'{python}/bin/python')} -m worker"


def place(launch: Launch, facts: Mapping[str, str] | None = None) -> Place:
    """`facts`: of that machine; None: nobody has asked it."""
    facts = facts or {}
    is_far = bool(launch.setting("host"))
    folder = str(launch.setting("dir", ""))
    if is_far:
        folder = folder or f"{facts.get('disk', '~')}/{NAME}"
        home = facts.get("home", "")
        if not folder.startswith(("/", "~/")):
            folder = f"~/{folder}"
        folder = f"{home}/{folder[2:]}" if home and folder.startswith("~/") else folder
    else:
        folder = str(Path(folder or "run/slurm").expanduser().absolute())
    folder = folder.rstrip("/")
    checkout = f"{folder}/checkout" if is_far else str(CHECKOUT)
    machine = Machine(
        data_disk=facts.get("disk", ""),
        environment={"HF_HOME": ""} if facts.get("hub") else {},
        folder=checkout,
    )
    own = native.place(_order(launch), machine)
    return Place(
        folder,
        launch.name,
        checkout,
        str(launch.setting("venv") or own.venv),
        own.environment,
        is_far,
        _queue(launch),
    )


def _queue(launch: Launch) -> str:
    """By its full name: the workers start elsewhere."""
    queue = launch.queue
    if not queue or "://" in queue or queue.startswith(("/", "~/")):
        return queue
    if launch.setting("host"):
        raise UsageError(f"--queue {queue}: on {launch.setting('host')} it needs its full path, or a URL")
    return str(Path(queue).absolute())


def _order(launch: Launch) -> Order:
    """With an image only the queue is seen to outside of it."""
    if not launch.image:
        return Order(launch.profile)
    return Order(read_profile(CHECKOUT, "cpu", {}))


def set_up(launch: Launch, where: Place) -> str:
    """A line for a shell: the environment, unless it is there. Two at once wait for each other."""
    hw = _order(launch).profile
    stack = f"WORKER_HW={quoted(hw.hw)} WORKER_STACK={quoted(hw.stack)}"
    return (
        f"cd {quoted(where.checkout)} && exec 9>.setting-up && {{ command -v flock >/dev/null && flock 9; "
        f"{stack} python3 -B -m worker.launch.here setup --hw {quoted(hw.hw)}; }} </dev/null"
    )


def facts(host: Host) -> dict[str, str]:
    return dict(line.split("=", 1) for line in host.need(f"{FACTS}; true").splitlines() if "=" in line)


def make(where: Place, mark: str) -> str:
    """A line for a shell: prints what it made, now or in an earlier try that nobody heard of. A folder that
    is there, and not of ours, is left alone."""
    folder, room, checkout = quoted(where.folder), quoted(where.room), quoted(where.checkout)
    return (
        'made() { if mkdir -- "$1" 2>/dev/null; then printf \'%s\\n\' "$2" >"$1"/'
        f'{MARK} || {{ rm -f -- "$1"/{MARK}; rmdir -- "$1"; exit 1; }}; printf \'%s\\n\' "$1"; '
        'else mkdir -p -- "$1" || exit 1; fi; }; '
        f'ours() {{ [ -f "$1"/{MARK} ] || {{ echo "$1 is there, and no launch made it: another --name or '
        '--dir" >&2; exit 2; }; }; '
        f'mkdir -p -- "$(dirname -- {folder})" && made {folder} {ALL} && made {room} {quoted(mark)} && '
        f"ours {room} && "
        + (f"made {checkout} {WORKER} && ours {checkout} && " if where.is_far else "")
        + f"{{ ! {is_ours(where, mark)} || echo {room}; }} && "
        f"mkdir -p -- {quoted(where.log)} {quoted(where.inputs)}"
    )


def is_ours(where: Place, mark: str) -> str:
    return f'[ "$(cat {quoted(f"{where.room}/{MARK}")} 2>/dev/null)" = {quoted(mark)} ]'


def delete(where: Place, mark: str) -> str:
    """A line for a shell: prints what it removed. Ours is what has our mark; the worker and the folder of all
    launches go with the last one of them."""
    folder, room, checkout = quoted(where.folder), quoted(where.room), quoted(f"{where.folder}/checkout")
    return (
        f"{is_ours(where, mark)} && rm -rf -- {room} && echo {room}; "
        f"others=$(find {folder} -mindepth 2 -maxdepth 2 -name {MARK} ! -path '*/checkout/{MARK}' "
        "2>/dev/null | head -n 1); "
        f'if [ -z "$others" ] && [ "$(cat {checkout}/{MARK} 2>/dev/null)" = {WORKER} ]; '
        f"then rm -rf -- {checkout}; fi; "
        f'if [ "$(cat {folder}/{MARK} 2>/dev/null)" = {ALL} ] && '
        f'[ -z "$(find {folder} -mindepth 1 -maxdepth 1 ! -name {MARK} | head -n 1)" ]; '
        f"then rm -rf -- {folder} && echo {folder}; fi; true"
    )
