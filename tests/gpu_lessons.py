"""Trainings for the engine's tests: their processes import this file, so it imports little."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Progress = Callable[[Mapping[str, Any]], None]
PATIENCE_S = 120


def cards(parameters: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Says that it started, and ends once it is told to go on."""
    progress({"pid": os.getpid()})
    sys.stdout.write("said by a training\n")
    if file := parameters.get("until"):
        end = time.monotonic() + PATIENCE_S
        while not Path(file).exists() and time.monotonic() < end:
            time.sleep(0.02)
    return {"cards": os.environ["CUDA_VISIBLE_DEVICES"], "torch": "torch" in sys.modules}


def endless(parameters: Mapping[str, Any], progress: Progress) -> None:
    """With a child of its own, and deaf to SIGTERM where it is told to be."""
    if parameters.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({PATIENCE_S})"])
    progress({"pids": [os.getpid(), child.pid]})
    child.wait()


def failing(parameters: Mapping[str, Any], progress: Progress) -> Any:  # noqa: ARG001
    match parameters["how"]:
        case "raises":
            raise ValueError("no such optimiser")
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exits":
            os._exit(5)
    return {"a set": {1}}
