"""`make bench`: every measurement in turn, or those that are named; docs/benchmarks.md takes what they print.

Nothing here is a test: timings are for people to read.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.util import find_spec

from tests.bench import page
from tests.workers import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
MACHINE = "machine"
MEASUREMENTS = {
    "start": (),
    "doctor": (),
    "stopping": (),
    "peers": (),
    "traffic": (),
    "memory": (),
    "tails": (),
    "feeding": (),
    "video": (),
    "live": (),
    "ghosts": (),
    "openai": (),
    "pcb": (),
    "pcb_inspect": (),
    "pcb_train": (),
    "merge": (),
    "cifar10": (),
    "vlm": (),
    "plans": (),
    "training": (),
    "gpus": (),
    "gpu_kills": (),
    "upload": (),
    "launch": (),
    "slurm": (),
    "million": ("1000000",),
}
"""each is a module here that prints Markdown, with what it is given"""


def main(names: list[str]) -> int:
    strange = sorted(set(names) - MEASUREMENTS.keys())
    if strange:
        print(f"{', '.join(strange)} is not measured; choose from {', '.join(MEASUREMENTS)}", file=sys.stderr)  # noqa: T201
        return 2
    if not names:
        page.write(PAGE, MACHINE, machine())
    for name in names or MEASUREMENTS:
        print(f"\n{name}\n", flush=True)  # noqa: T201
        if find_spec(f"tests.bench.{name}") is None:
            print("not here yet", flush=True)  # noqa: T201
        elif printed := measure(name):
            page.write(PAGE, name, printed)
    return 0


def measure(name: str) -> str:
    """What it prints, shown while it runs; nothing if it failed: the page keeps what it has."""
    command = [sys.executable, "-m", f"tests.bench.{name}", *MEASUREMENTS[name]]
    printed = ""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)  # noqa: T201
            printed += line
    return "" if process.returncode else printed


def machine() -> str:
    cores, python, system = os.cpu_count(), platform.python_version(), platform.system()
    return f"Last measured as a whole with {cores} cores, no GPU, Python {python}, {system}."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
