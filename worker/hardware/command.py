"""A program that is asked something: what it printed, and how it ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    out: str
    error: str = ""

    @property
    def last(self) -> str:
        """The line in which programs say what went wrong."""
        lines = [line.strip() for line in (self.error or self.out).splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"it ended with {self.code}"


def ask(command: Sequence[str], limit: float, environment: Mapping[str, str] | None = None) -> Said | None:
    """None: there is no such program. A driver that hangs is left behind after `limit` seconds."""
    if not shutil.which(command[0]):
        return None
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return Said(1, "", str(error))
    try:
        out, wrong = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # not waited for: one that hangs in the driver cannot die
        return Said(124, "", f"no answer in {limit:g} s")
    return Said(process.returncode, out, wrong)
