"""From an input to a lock: every package that pip would install, with its version."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from env.locks.inputs import stack_of
from worker.hardware.stacks import CPU, PYTHON

MARK = "# resolved from {name}.in, sha256 {digest}"
PIP = ("-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--only-binary", ":all:")
_OF_CUDA = "nvidia-(?!ml-py)|cuda-|triton$"
PLACES = ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL")


def mark(name: str, text: str) -> str:
    """A lock's first line: it is out of date when its input has another."""
    return MARK.format(name=name, digest=hashlib.sha256(text.encode()).hexdigest()[:16])


def lock(name: str, text: str, folder: Path) -> str:
    if (sys.version_info[:2], platform.system(), platform.machine()) != (PYTHON, "Linux", "x86_64"):
        sys.exit("locks are resolved with Python {}.{} on Linux x86-64, as the images have".format(*PYTHON))
    stack = stack_of(name)
    found = _resolved(text.replace(f"+{stack.index}", "") if stack.index else text, folder)
    if stack.index:
        # PyPI's wheel of the same torch is asked what it wants; what differs are CUDA's libraries
        found = {name: version for name, version in found.items() if not re.match("nvidia-.*-cu", name)}
        found |= stack.libraries
        found |= {"torch": str(stack.torch), "torchvision": str(stack.torchvision)}
    if stack is CPU:  # a torch that computes on a CPU alone wants nothing of CUDA; another brings its own
        found = {name: version for name, version in found.items() if not re.match(_OF_CUDA, name)}
    pins = sorted((f"{name}=={version}" for name, version in found.items()), key=str.lower)
    return "\n".join([mark(name, text), *pins, ""])


def _resolved(text: str, folder: Path) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as scratch:
        wanted, report = folder / ".resolving.in", Path(scratch) / "report.json"
        wanted.write_text(text, "utf-8")
        try:
            subprocess.run(
                [sys.executable, *PIP, "--report", str(report), "-r", str(wanted)],
                check=True,
                # a wheel that lies about on this machine must not win
                env={key: value for key, value in os.environ.items() if key not in PLACES}
                | {"PIP_CONFIG_FILE": os.devnull},
            )
        finally:
            wanted.unlink()
        told = json.loads(report.read_text("utf-8"))["install"]
    return {one["metadata"]["name"]: one["metadata"]["version"] for one in told}
