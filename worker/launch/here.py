"""`make run`, `doctor`, `image`, `push` and `setup`: decide, say what is done, and do it.

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
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import UsageError, WorkerError
from worker.launch import container, native
from worker.launch.machine import Engine, Machine, look
from worker.launch.order import Order, Step, check, doctor_words, read_profile, run_words, work_of

if TYPE_CHECKING:
    Program = Callable[..., Step]
    """its name, and what it is told → how it is started"""

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
            tuple(map(_at_home, (*_inputs(asked.inputs), *inputs))),
            _at_home(asked.queue),
            _at_home(asked.out),
            asked.image,
            asked.target,
            asked.engine,
            _at_home(asked.model),
        )
        check(order, CHECKOUT, lambda path: Path(path).exists())
        return int(ACTIONS[asked.action](order, look()))
    except WorkerError as error:
        _say(f"make {asked.action}: {error}")
        return error.exit_code


def run(order: Order, machine: Machine) -> int:
    order, engine = _where(order, machine)
    work = work_of(order, f"{machine.folder}/run" if engine else native.place(order, machine).room)
    demo = () if order.inputs else (work.demo,)
    program = _ready(order, machine, engine, (work.queue, work.out, *demo))
    if demo:
        _do([program("python", "-m", DEMOS.get(order.task, DEMO), *demo)])
    return _ending(order, _run(program("worker", *run_words(order, work))))


def doctor(order: Order, machine: Machine) -> int:
    order, engine = _where(order, machine)
    program = _ready(order, machine, engine, (order.queue,) if order.queue else ())
    return _run(program("worker", *doctor_words(order)))


def setup(order: Order, machine: Machine) -> int:
    _set_up(order, machine, native.place(order, machine))
    return 0


def image(order: Order, machine: Machine) -> int:
    _do([container.build(order, container.builder_of(machine), machine.environment)])
    return 0


def push(order: Order, machine: Machine) -> int:
    _do(container.push(order, machine))
    return 0


ACTIONS = {"run": run, "doctor": doctor, "setup": setup, "image": image, "push": push}


def _where(order: Order, machine: Machine) -> tuple[Order, Engine | None]:
    """None: without a container."""
    if order.image or (machine.engine and order.profile.has_gpu):
        if machine.engine is None:
            raise container.without_engine(order, machine)
        container.refuse_without_gpu(order, machine.engine)
        return container.absolute(order, machine.folder, _is_here), machine.engine
    if machine.why_none and order.profile.has_gpu:
        _say(f"{machine.why_none}: working without a container")
    native.refuse_without_gpu(order, machine)
    return order, None


def _ready(order: Order, machine: Machine, engine: Engine | None, made: Iterable[str]) -> Program:
    """All that starting takes is here then. `made`: what is written."""
    if engine is None:
        place = native.place(order, machine)
        _set_up(order, machine, place)
        told = {**order.profile.environment, **place.environment}
        return lambda name, *words: Step((place.program(name), *words), environment=told)
    named = {name: machine.environment.get(name, "") for name in container.FILES}
    files = {name: container.within(machine.folder, path) for name, path in named.items() if _is_here(path)}
    read = (*order.inputs, *files.values(), *([order.model] if _is_here(order.model) else []))
    mounted = container.mounts(made, read, lambda path: Path(path).is_file())
    cache = container.caches(machine.environment)
    # else they are made for us, and are root's
    _make(*mounted.written, *cache, *container.points(cache))
    if _is_absent(order, engine):
        _do([container.fetch(order, machine, engine)])
    said = {**order.profile.environment, **files}
    return lambda name, *words: Step(
        (*container.run(order, machine, engine, mounted, cache, name), *words), environment=said
    )


def _is_here(path: str) -> bool:
    return bool(path) and Path(path).exists()


def _make(*folders: str) -> None:
    for folder in folders:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder} cannot be made ({error.strerror}): name another folder") from None


def _inputs(said: str) -> list[str]:
    """IN, as a shell would take it apart; what is there by this very name is one."""
    if _is_here(said):
        return [said]
    try:
        return shlex.split(said)
    except ValueError as error:
        raise UsageError(f"IN={said}: {error}") from None


def _at_home(path: str) -> str:
    return os.path.expanduser(path)  # noqa: PTH111


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
    for name in ("task", "queue", "out", "image", "engine", "model"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--inputs", default="", help="all of them in one word")
    parser.add_argument("--target", default="worker", help="worker, or quantise")
    return parser


if __name__ == "__main__":
    sys.exit(main())
