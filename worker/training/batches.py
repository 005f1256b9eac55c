"""How many samples at once: halved where they do not fit, with as many a step as before."""

from __future__ import annotations

import logging

from worker.errors import UnfitError
from worker.training.settings import Training

log = logging.getLogger(__name__)


def cut(training: Training, devices: int = 1) -> Training:
    """A step of `effective_batch` into equal batches, none larger than `batch_size`."""
    if training.effective_batch is None:
        return training
    share, rest = divmod(training.effective_batch, devices)
    if rest:
        raise UnfitError(
            f"effective_batch {training.effective_batch} is no multiple of {devices} devices: take a number "
            "of them that divides it"
        )
    batch = max(one for one in range(1, min(training.batch_size, share) + 1) if share % one == 0)
    if batch != training.batch_size:
        log.info("%d samples at once, that %d make a step", batch, training.effective_batch)
    return training.model_copy(update={"batch_size": batch, "gradient_accumulation_steps": share // batch})


def halved(training: Training) -> Training | None:
    """The largest part of a step that is at most half a batch; None: one sample alone does not fit."""
    together = training.batch_size * training.gradient_accumulation_steps
    for batch in range(training.batch_size // 2, 0, -1):
        if together % batch == 0:
            changed = {"batch_size": batch, "gradient_accumulation_steps": together // batch}
            return training.model_copy(update=changed)
    return None


def begun_with(training: Training, halvings: int) -> Training | None:
    """Where it did not fit so often before, in processes that are gone."""
    smaller: Training | None = training
    for _ in range(halvings):
        smaller = smaller and halved(smaller)
    return smaller


def kept(training: Training, devices: int, together: int) -> Training:
    """As many samples a step as before, `together`, on however many devices. 0: nobody knows."""
    if together in (0, devices * training.batch_size * training.gradient_accumulation_steps):
        return training
    for batch in range(training.batch_size, 0, -1):
        if together % (batch * devices) == 0:
            steps = together // (batch * devices)
            log.warning(
                "a step is made of %d samples, as before: %d batches of %d on each of %d devices",
                together,
                steps,
                batch,
                devices,
            )
            return training.model_copy(update={"batch_size": batch, "gradient_accumulation_steps": steps})
    raise UnfitError(
        f"a step of this training is made of {together} samples, which {devices} devices cannot share: "
        "go on with a number of them that divides it"
    )


def out_of_memory(error: BaseException) -> bool:
    """Of a device, or of the machine where that is the device."""
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )
