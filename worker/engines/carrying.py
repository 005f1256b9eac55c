"""What goes between the host and the device, while the device computes.

A copy out of ordinary memory waits until the device has done all that it was told before; one out of
pinned memory does not. No buffer is kept here: torch gives pinned memory to nobody before it was read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


class Carrier:
    """Brings arrays to a device on a stream of its own, beside what that computes."""

    def __init__(self, device: Any) -> None:
        import torch

        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def bring(self, values: Any) -> Tensor:
        """What is computed from now on waits for it, and nothing else does."""
        import torch

        if self._stream is None:
            return there(values, self._device)
        with torch.cuda.stream(self._stream):
            brought = there(values, self._device)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._stream)
        brought.record_stream(computing)  # its memory is the other stream's
        return brought


def there(values: Any, device: Any) -> Tensor:
    """On the device, in the order of the stream that is on."""
    import torch

    tensor = values if isinstance(values, torch.Tensor) else torch.from_numpy(np.asarray(values))
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def here(values: Tensor) -> Any:
    """As lists; waits for them. Nothing else of an answer does."""
    import torch

    if values.device.type != "cuda":
        return values.tolist()
    come = values.contiguous().to("cpu", non_blocking=True)  # which is pinned, for that it does not block
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record(torch.cuda.current_stream(values.device))
    done.synchronize()
    return come.tolist()
