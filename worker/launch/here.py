"""`make run`, `make image`, `make push` and `make setup`: decide, say what is done, and do it.

python3 -m worker.launch.here run --hw a800 --task ghost-probing -- drives
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from worker.errors import WorkerError
from worker.launch import container, native
from worker.launch.machine import Engine, Machine, look
from worker.launch.order import Order, Step, read_profile, work_of

CHECKOUT = Path(__file__).resolve().parents[2]
DEMOS = {"ghost-probing": "worker.ghosts.demo", "pcb-inspect": "worker.boards.demo"}
DEMO = "worker.media.demo"
"""of use to all other tasks"""
SOME_FAILED = 1
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
ON_PURPOSE = "The demonstration set holds broken files on purpose: failed items are as they should be."


class StepError(WorkerError):
    """A command that had to succeed first."""

    def __init__(self, step: Step, code: int) -> None:
        super().__init__(f"{shlex.join(step.command[:3])} … ended with {code}")


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    asked, inputs = _parser().parse_args(words[:end]), words[end + 1 :]
    try:
        order = Order(
            read_profile(CHECKOUT, asked.hw, os.environ),
            asked.task,
            tuple(inputs),
            os.path.expanduser(asked.queue),  # noqa: PTH111
            os.path.expanduser(asked.out),  # noqa: PTH111
            asked.image,
            asked.target,
        )
        return int(ACTIONS[asked.action](order, look()))
    except WorkerError as error:
        _say(f"make {asked.action}: {error}")
        return error.exit_code


def run(order: Order, machine: Machine) -> int:
    if order.image or (machine.engine and order.profile.has_gpu):
        return _run_in_container(order, machine)
    if machine.why_none and order.profile.has_gpu:
        _say(f"{machine.why_none}: working without a container")
    return _run_natively(order, machine)


def setup(order: Order, machine: Machine) -> int:
    _set_up(order, machine, native.place(order, machine))
    return 0


def image(order: Order, machine: Machine) -> int:
    _do([container.build(order, container.builder_of(machine), machine.environment)])
    return 0


def push(order: Order, machine: Machine) -> int:
    _do(container.push(order, machine))
    return 0


ACTIONS = {"run": run, "setup": setup, "image": image, "push": push}


def _run_natively(order: Order, machine: Machine) -> int:
    native.refuse_without_gpu(order, machine)
    place = native.place(order, machine)
    _set_up(order, machine, place)
    work = work_of(order, place.room)
    if not order.inputs:
        _do([Step((place.program("python"), "-m", DEMOS.get(order.task, DEMO), work.demo))])
    command = (place.program("worker"), *_arguments(order, work.queue, work.out, work.demo))
    return _ending(order, _run(Step(command, environment=place.environment)))


def _run_in_container(order: Order, machine: Machine) -> int:
    engine = machine.engine
    if engine is None:
        raise container.without_engine(order, machine)
    container.refuse_without_gpu(order, engine)
    if _is_absent(order, engine):
        _do([container.fetch(order, machine, engine)])
    work = work_of(order, "run")
    named = [machine.environment.get(name, "") for name in container.FILES]
    more = [path for path in named if path and Path(path).exists()]
    mounted = container.mounts(order, work, machine.folder, more, lambda path: Path(path).is_file())
    cache = container.caches(machine.environment)
    for folder in (*mounted.written, *cache):
        Path(folder).mkdir(parents=True, exist_ok=True)  # else they are made for us, and are root's
    if not order.inputs:
        python = container.run(order, machine, engine, mounted, cache, "python")
        _do([Step((*python, "-m", DEMOS.get(order.task, DEMO), work.demo))])
    worker = container.run(order, machine, engine, mounted, cache, "worker")
    return _ending(order, _run(Step((*worker, *_arguments(order, work.queue, work.out, work.demo)))))


def _arguments(order: Order, queue: str, out: str, demo: str) -> tuple[str, ...]:
    return ("run", queue, "--task", order.task, "--out", out, *(order.inputs or (demo,)))


def _ending(order: Order, code: int) -> int:
    if code == SOME_FAILED and not order.inputs:
        print(ON_PURPOSE)  # noqa: T201
        return 0
    return code


def _is_absent(order: Order, engine: Engine) -> bool:
    asked = container.there(order, engine)
    return (
        subprocess.run(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode
        != 0
    )


def _set_up(order: Order, machine: Machine, place: native.Place) -> None:
    sources = [CHECKOUT / order.lock, CHECKOUT / "pyproject.toml"]
    stamp = Path(place.stamp)
    if stamp.exists() and stamp.stat().st_mtime >= max(file.stat().st_mtime for file in sources):
        return
    Path(place.venv).parent.mkdir(parents=True, exist_ok=True)
    _do(native.set_up(order, machine, place, machine.environment.get("TORCH_INDEX") or _torch_index(order)))


def _torch_index(order: Order) -> str:
    found = re.search(r"^ARG TORCH_INDEX=(\S+)", (CHECKOUT / order.dockerfile).read_text(), re.MULTILINE)
    return found[1] if found else ""


def _do(steps: Iterable[Step]) -> None:
    for step in steps:
        if code := _run(step):
            raise StepError(step, code)


def _run(step: Step) -> int:
    """A stop reaches what runs: Ctrl-C by the terminal, the others by us."""
    if step.said:
        _say(step.said)
    running: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _: object) -> None:
        for one in running:
            if number != signal.SIGINT:
                one.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in PASSED_ON}
    try:
        running.append(subprocess.Popen(step.command, env={**os.environ, **step.environment}))
        code = running[0].wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m worker.launch.here", usage="%(prog)s ACTION --hw HW [OPTION…] [-- INPUT…]"
    )
    parser.add_argument("action", choices=list(ACTIONS))
    parser.add_argument("--hw", required=True, help="env/<hw>.env: the machine")
    for name in ("task", "queue", "out", "image"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--target", default="worker", help="worker, or quantise")
    return parser


if __name__ == "__main__":
    sys.exit(main())
