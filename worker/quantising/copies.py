"""What a tool restores after a trial, it has to have kept: of a weight in RAM `.cpu()` is no copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def kept(module: Any) -> Iterator[None]:
    """Inside of this its state_dict is what it was when it was asked for, whatever becomes of its weights."""
    state = module.state_dict
    module.state_dict = lambda: {name: one.to("cpu", copy=True) for name, one in state().items()}
    try:
        yield
    finally:
        del module.state_dict
