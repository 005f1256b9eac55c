"""How many samples a device computes at once: tried out with the longest one, before a training starts.
Nothing of it is left: the model is loaded once more, with all random numbers begun anew."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.utils._python_dispatch import TorchDispatchMode

from worker.engines.device import Device, look
from worker.hardware.gpus import SHARE
from worker.planning.memory import ADAM
from worker.training import batches
from worker.training.record import Standing
from worker.training.settings import Training

if TYPE_CHECKING:
    from worker.training.core import Run
    from worker.training.course import Course

log = logging.getLogger(__name__)

MOST = 256
"""samples at once: beyond so many a card computes no faster"""


def measured(
    make: Callable[[], Course],
    training: Training,
    run: Run,
    devices: int = 1,
    agree: Callable[[int], int] = int,
) -> Training | None:
    """With a batch that fits, if nobody said how large one is: as it was found before, or tried out now.
    `agree`: what fits on each of several devices → what fits on all. None: not one sample fits."""
    halvings = run.workspace.halved
    if not training.measured:
        return batches.begun_with(batches.cut(training, devices), halvings)
    device = next(look(run.device))
    found = run.workspace.resume()
    before = Standing.read(found.folder) if found else None
    fitted = before.batch if before and before.card == device.name else 0
    if before and agree(fitted):  # on every device, or all try it out
        batch, why = fitted, "as this training began"
        halvings = max(0, halvings - before.halved)
    else:
        batch, why = agree(_tried_out(make, training, device, run.workspace.alive)), "so many fit"
    cut = batches.cut(training.model_copy(update={"batch_size": batch, "measured": False}), devices)
    log.info("%d samples at once, %d times a step (%s)", cut.batch_size, cut.gradient_accumulation_steps, why)
    return batches.begun_with(cut, halvings)


def largest(tried: Callable[[int], float | None], fixed: float, room: float, most: int) -> int:
    """`tried`: bytes that so many samples took, `fixed` of them however many; None: memory ran out. Doubled
    only where what is known says that it fits: on a CPU there is no second chance."""
    fits, count = 1, 1
    while (peak := tried(count)) is not None and peak <= room:
        fits = count
        count *= 2
        if count > most or fixed + 2 * (peak - fixed) > room:
            break
    return fits


def _tried_out(
    make: Callable[[], Course], training: Training, device: Device, alive: Callable[[], None]
) -> int:
    from worker.training.core import free

    trial = Trial(make(), training, device, alive)
    most = min(MOST, training.effective_batch or MOST)
    fits = largest(trial.peak, trial.fixed, trial.room, most)
    del trial
    free(device.place)
    return fits


@dataclass(slots=True)
class Trial:
    course: Course
    training: Training
    device: Device
    alive: Callable[[], None]
    fixed: float = 0.0
    """bytes of it that lie there however many samples are computed"""
    room: float = 0.0
    """bytes, what the optimiser will take left out"""

    def __post_init__(self) -> None:
        import torch

        learns = [one for one in self.course.model.parameters() if one.requires_grad]
        for one in learns:
            one.grad = torch.zeros_like(one)  # in all batches of a step but the first they lie there
        self.fixed = float(sum(one.numel() * one.element_size() for one in learns))
        free = self.device.free or 0
        if self.device.kind == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device.place)
            free += torch.cuda.memory_reserved(self.device.place)
            self.fixed = torch.cuda.memory_allocated(self.device.place)
        self.room = SHARE * free - ADAM * sum(one.numel() for one in learns)
        if self.training.gradient_checkpointing:
            self.course.compute_again()
        self.course.model.train()

    def peak(self, count: int) -> float | None:
        """Bytes of a step with so many of the longest sample; None: memory ran out."""
        import torch

        self.alive()
        try:
            if self.device.kind != "cuda":
                with Living(self.course.model) as living:
                    self._step(count)
                return float(self.fixed + living.most)
            torch.cuda.reset_peak_memory_stats(self.device.place)
            self._step(count)
            return float(torch.cuda.max_memory_allocated(self.device.place))
        except Exception as error:
            if not batches.out_of_memory(error):
                raise
        # only here: an exception in hand holds on to all that it passed by
        gc.collect()
        return None

    def _step(self, count: int) -> None:
        import torch

        from worker.training.core import numbers_of

        sample = self.course.train[self.course.longest]
        inputs = {
            name: one.to(self.device.place) for name, one in self.course.collate([sample] * count).items()
        }
        labels = inputs.pop("labels")
        numbers = numbers_of(self.training, self.device)
        kind = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": None}[numbers]
        with torch.autocast(self.device.kind, kind, enabled=kind is not None, cache_enabled=False):
            loss = self.course.loss(self.course.model(**inputs), labels, num_items_in_batch=count)
        loss.backward()


class Living(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes that come to be and live at once, beside those of a model and of its gradients."""

    def __init__(self, model: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = self._now = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()
        for one in (*model.parameters(), *model.buffers()):
            self._known.add(one.untyped_storage())
            if one.grad is not None:
                self._known.add(one.grad.untyped_storage())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch import Tensor
        from torch.utils._pytree import tree_map_only

        found = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._seen, found)
        return found

    def _seen(self, one: Any) -> None:
        storage = one.untyped_storage()
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self._now += size
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self._now -= size
