"""Tools that take hours say how far they are in bars of their own, which nobody sees: here it is worked out
from the layers that run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_SIGN_S = 1.0


@contextmanager
def watched(layers: Sequence[Any], progress: Callable[[int, int], None]) -> Iterator[None]:
    """`progress`: how many of the layers are behind it, about once a second, from whatever module runs:
    there is no other way into the hours that it takes."""
    from torch.nn.modules.module import register_module_forward_pre_hook

    of = {id(one): at for at, one in enumerate(layers)}
    reached, last = 0, 0.0

    def sign(module: Any, _: Any) -> None:
        nonlocal reached, last
        reached = max(reached, of.get(id(module), 0))
        if time.monotonic() - last > _SIGN_S:
            last = time.monotonic()
            progress(reached, len(layers))

    hook = register_module_forward_pre_hook(sign)
    try:
        with _no_bars():
            yield
    finally:
        hook.remove()


@contextmanager
def _no_bars() -> Iterator[None]:
    """Several for each layer, in a log that nobody watches as a screen."""
    from tqdm import tqdm

    usual = tqdm.__init__

    def hidden(self: Any, *args: Any, **told: Any) -> None:
        usual(self, *args, **{**told, "disable": True})

    tqdm.__init__ = hidden
    try:
        yield
    finally:
        tqdm.__init__ = usual
