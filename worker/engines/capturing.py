"""Steps of decoding as CUDA graphs, one for each number of rows: a step is some thousand kernels, and to
start them one by one takes longer than they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker.engines.room import Room


class CannotCaptureError(Exception):
    """A step cannot be captured."""


class Graphs:
    def __init__(self, device: Any) -> None:
        self.kept = 0
        """bytes that they hold, beside the room"""
        self._device = device
        self._graphs: dict[int, Any] = {}
        self._pool: Any = None
        self._aside: Any = None

    def release(self) -> None:
        self._graphs.clear()
        self._pool = None
        self.kept = 0

    def run(self, rows: int, step: Callable[[], None], room: Room) -> None:
        """`step` goes on with so many rows, and all that it changes is in the room."""
        if (graph := self._graphs.get(rows)) is not None:
            graph.replay()
            return
        free = self._free()
        self._graphs[rows] = graph = self._capture(step, room)
        graph.replay()
        self.kept += max(0, free - self._free())

    def _capture(self, step: Callable[[], None], room: Room) -> Any:
        import torch

        try:
            return self._captured(step, room)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if isinstance(error.__context__, torch.OutOfMemoryError):  # the capture ends, and complains too
                raise error.__context__ from None
            raise CannotCaptureError(str(error)) from None

    def _captured(self, step: Callable[[], None], room: Room) -> Any:
        import torch

        if self._aside is None:  # libraries keep memory for every stream that they met
            self._aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        # nothing that a step makes is needed behind it: all graphs may make it in the same memory
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        before = room.state()
        self._aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._aside):
            step()  # libraries set themselves up at their first call, which cannot be captured
        torch.cuda.current_stream().wait_stream(self._aside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, self._pool, self._aside, capture_error_mode="thread_local"):
                step()
        finally:
            room.restore(before)
        return graph

    def _free(self) -> int:
        """Bytes of the device that nobody holds."""
        if self._device.type != "cuda":
            return 0
        import torch

        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(self._device)[0]
