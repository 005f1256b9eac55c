"""Whose fault an exception is: the item's, or the machine's."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

from worker.errors import ItemError, MachineError, StoreAwayError, UnfinishedError
from worker.items import Failure

ILL = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ESTALE,
    errno.ENODEV,
}
ILL_AFTER = 3
"""faults of the machine in a row, with no work done between them: it is not the work"""
DEVICE_WORDS = ("CUDA error", "HIP error", "NCCL error", "cuDNN error", "device-side assert", "CUDA driver")


def failure_of(error: Exception, file: str = "") -> Failure:
    """`file`: the task's own, where a person looks first."""
    if isinstance(error, ItemError):
        return Failure(error.kind, error.message)
    if isinstance(error, StoreAwayError):
        return Failure("store", str(error))
    if isinstance(error, OSError) and error.errno in ILL:
        return Failure("system", in_one_line(error))
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Failure("memory", f"ran out of memory: {in_one_line(error)}")
    if isinstance(error, MachineError | UnfinishedError) or any(word in str(error) for word in DEVICE_WORDS):
        return Failure("device", in_one_line(error))
    return Failure("error", f"{in_one_line(error)} ({place(error, file)})")


def in_one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500].rstrip(": ")


def place(error: BaseException, file: str) -> str:
    stack = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [one for one in stack if one[0] == file]
    where, line = (own or stack or [("?", 0)])[-1]
    return f"{Path(where).name}:{line}"
