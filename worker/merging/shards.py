"""A file of the base, its changed tensors overwritten on the way: of one of them at a time the change is in
memory, and some rows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
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
"""so many of a tensor are in memory at once; of a product, in 32 bits, all"""
_TORCH = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def merged(file: Path, changes: Mapping[str, Change], adapter: Path) -> Iterator[memoryview]:
    """What the merged file consists of, in its order: its header, for no tensor changes its type or shape,
    what stays as it is, and what is changed."""
    changed = [one for one in weights.header(file).tensors if one.name in changes]
    with file.open("rb", buffering=0) as source, adapter.open("rb", buffering=0) as other:
        at = 0
        for one in changed:
            yield from _as_it_is(source.fileno(), at, one.start)
            yield from _changed(source.fileno(), one, changes[one.name], other.fileno())
            at = one.end
        yield from _as_it_is(source.fileno(), at, os.fstat(source.fileno()).st_size)


def _as_it_is(handle: int, start: int, end: int) -> Iterator[memoryview]:
    block = memoryview(bytearray(min(_BLOCK, end - start)))
    while start < end:
        part = block[: end - start]
        _fill(handle, part, start)
        yield part
        start += len(part)


def _changed(handle: int, tensor: Tensor, change: Change, adapter: int) -> Iterator[memoryview]:
    """To the bit what PEFT makes of it on a CPU: the product in 32 bits, rounded once."""
    product: Numbers | None = None
    if change.a and change.b:
        product = _read(adapter, change.b).float() @ _read(adapter, change.a).float()
        product *= change.scale
        product = product.T if change.of_rows else product
    for at in range(0, _rows(tensor), _ROWS):
        some = _part(tensor, at)
        data = bytearray(some.end - some.start)
        numbers = _view(data, some)
        if change.instead:
            numbers.copy_(_read(adapter, _part(change.instead, at)))
        else:
            _fill(handle, memoryview(data), some.start)
        if product is not None:
            more = product[at : at + _ROWS]
            # rounded once; of an embedding the product is rounded by itself first
            numbers += more.to(numbers.dtype) if change.of_rows else more
        least, most = numbers.aminmax()
        if not bool(least.isfinite() & most.isfinite()):
            raise ItemError(
                WRONG,
                f"merged, numbers of {tensor.name} are too large for {tensor.kind}, or none: it diverged",
            )
        yield memoryview(data)


def _rows(tensor: Tensor) -> int:
    return tensor.shape[0] if tensor.shape else 1


def _part(tensor: Tensor, row: int) -> Tensor:
    """Some of its rows, from this one on."""
    rows = _rows(tensor)
    some, each = min(_ROWS, rows - row), (tensor.end - tensor.start) // rows
    start, shape = tensor.start + row * each, (some, *tensor.shape[1:])
    return replace(tensor, shape=shape if tensor.shape else (), start=start, end=start + some * each)


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
