"""Safetensors files, read by their headers: which tensors, how large, and a mark of their content."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.errors import UsageError

SUFFIX = ".safetensors"
_SAMPLE = 4096
"""so many bytes of each tensor are part of a mark"""
_HEADER_MOST = 100_000_000
"""what the format allows"""


@dataclass(frozen=True, slots=True)
class Tensor:
    name: str
    kind: str
    """of its numbers, as the format writes it: F16, BF16, I32 …"""
    shape: tuple[int, ...]
    start: int
    """in the file"""
    end: int

    @property
    def is_float(self) -> bool:
        return self.kind.startswith(("F", "BF"))

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    data: bytes
    tensors: Sequence[Tensor]
    """in the order in which they lie"""


def header(file: Path) -> Header:
    """What stands at a file's beginning. A file that is cut short is refused."""
    size = file.stat().st_size
    with file.open("rb") as source:
        length = int.from_bytes(source.read(8), "little")
        data = source.read(length) if 0 < length <= min(_HEADER_MOST, size) else b""
    try:
        told = json.loads(data)
        told.pop("__metadata__", None)
        first = 8 + length
        tensors = [
            Tensor(
                name, one["dtype"], tuple(one["shape"]), *(first + offset for offset in one["data_offsets"])
            )
            for name, one in told.items()
        ]
    except (ValueError, AttributeError, KeyError, TypeError):
        raise UsageError(f"{file} is no safetensors file: copy or fetch it again") from None
    tensors.sort(key=lambda one: (one.start, one.name))
    if (ends := max((one.end for one in tensors), default=first)) > size:
        raise UsageError(f"{file} is cut short, {size:,} of {ends:,} bytes are there: copy or fetch it again")
    return Header(data, tensors)


def mark(file: Path) -> str:
    """Changes with any name, type, shape or place of a tensor, and with the beginning of each one's numbers:
    whatever trains a tensor changes those too."""
    head = header(file)
    digest = hashlib.sha256(head.data)
    with file.open("rb", buffering=0) as source:
        for tensor in head.tensors:
            digest.update(os.pread(source.fileno(), min(_SAMPLE, tensor.end - tensor.start), tensor.start))
    return digest.hexdigest()
