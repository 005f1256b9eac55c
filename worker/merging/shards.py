"""A file of the base, its changed tensors overwritten on the way: one of them in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from worker.engines import weights
from worker.engines.weights import Tensor
from worker.errors import ItemError
from worker.merging.adapter import WRONG, Change

if TYPE_CHECKING:
    from torch import Tensor as Numbers

_BLOCK = 1 << 22
_ROWS = 512
"""so many of a tensor are added to at once, for a sum of two types is made in copies of the larger one"""
_TORCH = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def merged(file: Path, changes: Mapping[str, Change], adapter: Path) -> Iterator[memoryview]:
    """What the merged file consists of, in its order: its header, for no tensor changes its type or shape,
    what stays as it is, and what is changed."""
    changed = [one for one in weights.header(file).tensors if one.name in changes]
    with file.open("rb", buffering=0) as source, adapter.open("rb", buffering=0) as other:
        at = 0
        for one in changed:
            yield from _as_it_is(source.fileno(), at, one.start)
            yield _changed(source.fileno(), one, changes[one.name], other.fileno())
            at = one.end
        yield from _as_it_is(source.fileno(), at, os.fstat(source.fileno()).st_size)


def _as_it_is(handle: int, start: int, end: int) -> Iterator[memoryview]:
    block = memoryview(bytearray(min(_BLOCK, end - start)))
    while start < end:
        part = block[: end - start]
        _fill(handle, part, start)
        yield part
        start += len(part)


def _changed(handle: int, tensor: Tensor, change: Change, adapter: int) -> memoryview:
    """To the bit what PEFT makes of it on a CPU: the product in 32 bits, rounded once."""
    data = bytearray(tensor.end - tensor.start)
    numbers = _view(data, tensor)
    if change.instead:
        numbers.copy_(_read(adapter, change.instead))
    else:
        _fill(handle, memoryview(data), tensor.start)
    if change.a and change.b:
        product = _read(adapter, change.b).float() @ _read(adapter, change.a).float()
        product *= change.scale
        product = product.T if change.of_rows else product
        for at in range(0, len(numbers), _ROWS):
            some, more = numbers[at : at + _ROWS], product[at : at + _ROWS]
            # rounded once; of an embedding the product is rounded by itself first
            some += more.to(some.dtype) if change.of_rows else more
    least, most = numbers.aminmax()
    if not bool(least.isfinite() & most.isfinite()):
        raise ItemError(
            WRONG,
            f"merged, numbers of {tensor.name} are too large for {tensor.kind}, or none: it diverged",
        )
    return memoryview(data)


def _read(handle: int, tensor: Tensor) -> Numbers:
    data = bytearray(tensor.end - tensor.start)
    _fill(handle, memoryview(data), tensor.start)
    return _view(data, tensor)


def _view(data: bytearray, tensor: Tensor) -> Numbers:
    import torch

    if tensor.kind not in _TORCH:
        raise ItemError(
            WRONG, f"{tensor.name} is stored as {tensor.kind}: take an adapter of F32, F16 or BF16"
        )
    flat: Numbers = torch.frombuffer(data, dtype=getattr(torch, _TORCH[tensor.kind]))
    return flat.view(tensor.shape)


def _fill(handle: int, data: memoryview, at: int) -> None:
    while data:
        got = os.preadv(handle, [data], at)
        if not got:
            raise OSError("a file of weights was cut short while it was read")
        data, at = data[got:], at + got
