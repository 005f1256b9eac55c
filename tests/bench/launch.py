"""How long `worker launch … render` takes, from the first keystroke to the files."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Iterator

from tests.bench.start import seconds
from tests.bench.table import Figure, not_here, show
from worker.launch.launcher import LAUNCHERS

ASKED = (
    *(
        "--hw",
        "a100",
        "--task",
        "ghost-probing",
        "--engine",
        "qwen",
        "--model",
        "Qwen/Qwen2.5-VL-7B-Instruct",
    ),
    *("--queue", "az://clips/queue", "--image", "registry.example/worker:1", "--time-limit", "12h"),
)
ROUNDS = 9


def figures() -> Iterator[Figure]:
    for name in LAUNCHERS:
        what, aim = f"`worker launch {name} render` against `worker --help`", "under 0.5 s"
        try:
            pairs = [
                (seconds("-m", "worker", "launch", name, "render", *ASKED), seconds("-m", "worker", "--help"))
                for _ in range(ROUNDS)
            ]
        except subprocess.CalledProcessError as error:
            yield Figure(what, not_here(error.stderr.decode()), aim)
            continue
        ours, helps = (statistics.median(column) for column in zip(*pairs, strict=True))
        yield Figure(what, f"{ours * 1000:.0f} ms against {helps * 1000:.0f} ms", aim)


if __name__ == "__main__":
    show("launch", figures())
