"""A training from its first step to its last, through stops, deaths and too little memory."""

from __future__ import annotations

import gc
import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.engines.device import Device, look
from worker.engines.precision import Precision
from worker.errors import ItemError, MachineError, UnfitError
from worker.hardware import gpus
from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Checkpoint, Workspace
from worker.tasks.task import Stopped
from worker.training import feeding, strategy
from worker.training.batches import halved, kept, out_of_memory
from worker.training.record import METRICS, RECORD, Record, read
from worker.training.settings import Monitor, Training
from worker.training.world import World, entered

if TYPE_CHECKING:
    from worker.training.course import Course

log = logging.getLogger(__name__)

_STATE = "trainer_state.json"
_STATES = (_STATE, ".pt", ".pth", ".bin")
"""of a checkpoint, which a model that is trained no further needs no more"""


@dataclass(frozen=True, slots=True)
class Run:
    """What a training needs of its surroundings."""

    workspace: Workspace
    stop: StopFlag
    device: str
    name: str
    """of the item: W&B's run is called so"""
    beside: Mapping[str, str] = field(default_factory=dict)
    """small files that the record has from the beginning: their names, and what stands in them"""
    begin: Callable[[], Checkpoint | None] = lambda: None
    """where it begins that has no checkpoint yet: with one of another training, whose folder stays"""


@dataclass(frozen=True, slots=True)
class Trained:
    steps: int
    best_step: int
    model: Path
    """the best one's folder, as it was saved"""
    record: Record

    def tried(self, best_by: str, loss: str) -> Mapping[str, Any]:
        """What was measured of the best model while it was trained. `loss`: its name among those."""
        rows = read(dict(self.record.files())[METRICS])
        best = [row for row in rows if row["step"] == self.best_step and f"eval/{best_by}" in row][-1]
        if not math.isfinite(best[f"eval/{loss}"]):
            raise ItemError(
                "diverged",
                "the loss was a number in no evaluation: take a smaller learning_rate, or more warmup_steps",
            )
        return best


def train(make: Callable[[], Course], training: Training, monitor: Monitor, run: Run) -> Trained | None:
    """`make` loads the model and the data sets; again after memory ran out, for nothing is sound then.

    Of several processes it is called in each, with the environment that torchrun gives; None: this is not the
    first of them."""
    with entered(run.device) as world, strategy.nothing_left():
        return _until_it_fits(make, training, monitor, run, world)


def _until_it_fits(
    make: Callable[[], Course], training: Training, monitor: Monitor, run: Run, world: World
) -> Trained | None:
    from worker.training.measuring import measured

    smaller = measured(make, training, run, world.size, world.least)
    while smaller:
        training = smaller
        try:
            return _train(make, training, monitor, run, world)
        except Exception as error:
            # of several processes the others wait for this one now: who started them begins anew
            if world.size > 1 or not out_of_memory(error):
                raise
        smaller = halved(training)
        run.workspace.settle()
        run.workspace.clear()
        free(run.device)
        if smaller:
            log.warning(
                "a batch of %d does not fit: going on with %d, %d of them a step",
                training.batch_size,
                smaller.batch_size,
                smaller.gradient_accumulation_steps,
            )
    raise UnfitError("not even one sample at a time fits into the memory: take a larger card")


def _train(
    make: Callable[[], Course], training: Training, monitor: Monitor, run: Run, world: World
) -> Trained | None:
    from transformers import PrinterCallback, set_seed

    from worker.training.coach import Coach
    from worker.training.epochs import Epochs
    from worker.training.keeper import Keeper
    from worker.training.meter import Meter

    device = next(look(run.device))
    resumed = run.workspace.resume()
    begun = None if resumed else _begun(run, world)
    found = resumed or begun
    set_seed(training.seed)  # what is made new, such as a head, is made alike everywhere
    course = make()
    if begun and course.require_same:
        course.require_same(begun)
    if training.gradient_checkpointing:
        course.compute_again()
    record = Record(
        run.workspace.folder / RECORD,
        monitor,
        run.name,
        resumed.folder if resumed else None,
        speaks=world.is_first,
    )
    for name, text in run.beside.items():
        record.put(name, text)
    standing = record.standing
    standing.batch, standing.card = training.batch_size, device.name
    standing.halved = run.workspace.halved
    every = monitor.all_freq
    is_due = found is not None and found.step % every.eval_log_freq == 0 and standing.evaluated != found.step
    training = kept(training, world.size, standing.samples)
    standing.samples = world.size * training.batch_size * training.gradient_accumulation_steps
    way = strategy.chosen(training, world.size)
    more = strategy.arguments(way, training, numbers_of(training, device), device.kind, world.size)
    folder = run.workspace.folder / "coach"
    coach = Coach(
        course,
        record,
        world,
        way,
        args=_arguments(training, monitor, device, folder, {**more, "eval_on_start": is_due}),
        callbacks=[
            Epochs(course.train),
            Meter(run.workspace, record, every, course.flops, _peak(device, training), world),
            Keeper(run.workspace, run.stop, record, course.best_by, world, found),
        ],
    )
    coach.remove_callback(PrinterCallback)
    if not (resumed and _is_finished(resumed)):
        coach.train(resume_from_checkpoint=str(found.folder) if found else None)
        if coach.state.global_step < coach.state.max_steps:
            raise Stopped
    record.close()
    steps = coach.state.global_step or (found.step if found else 0)
    del coach, course
    free(run.device)
    if not world.is_first:
        return None
    best = run.workspace.best(lambda name: "/" not in name and not name.endswith(_STATES))
    if best is None:
        raise ItemError("error", "no checkpoint of the best model is left")
    return Trained(steps, standing.best_step, best.folder, record)


def _begun(run: Run, world: World) -> Checkpoint | None:
    """The processes of a node have one folder: the first of them fetches it."""
    found = run.begin() if world.is_first_here else None
    world.wait()
    found = found or run.begin()
    step = str(found and found.step)
    if world.tell(step) != step:
        raise MachineError(f"other processes begin at another step than {step}: its queue has moved on")
    return found


def _is_finished(found: Checkpoint) -> bool:
    state = json.loads((found.folder / _STATE).read_text())
    return bool(state["global_step"] >= state["max_steps"])


def _arguments(
    training: Training, monitor: Monitor, device: Device, folder: Path, more: Mapping[str, Any]
) -> Any:
    from transformers import TrainingArguments

    numbers = numbers_of(training, device)
    readers = feeding.readers(training, device)
    return TrainingArguments(
        output_dir=str(folder),
        bf16=numbers == "bf16",
        fp16=numbers == "fp16",
        num_train_epochs=training.num_epochs,
        max_steps=training.max_steps or -1,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.lr_scheduler,
        warmup_steps=training.warmup_steps,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        optim="adamw_torch_fused",
        per_device_train_batch_size=training.batch_size,
        per_device_eval_batch_size=training.eval_batch_size or training.batch_size,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        ddp_find_unused_parameters=False,
        dataloader_num_workers=readers,
        dataloader_prefetch_factor=feeding.ahead(training, readers),
        dataloader_pin_memory=device.kind != "cpu",
        # kept alive, loaders would draw a random number in the first epoch alone: after a resume another
        dataloader_persistent_workers=False,
        logging_strategy="steps",
        logging_steps=monitor.all_freq.training_log_freq,
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        eval_steps=monitor.all_freq.eval_log_freq,
        save_strategy="steps",
        save_steps=training.save_steps,
        remove_unused_columns=False,
        label_names=["labels"],
        seed=training.seed,
        data_seed=training.seed,
        report_to="none",
        disable_tqdm=True,
        **{"accelerator_config": {"non_blocking": device.kind != "cpu"}, **more},
    )


def numbers_of(training: Training, device: Device) -> Precision:
    """In which numbers products are computed."""
    if training.precision != "auto":
        if training.precision == "bf16" and not device.bf16:
            log.warning("%s has no bf16, or emulates it: fp16 is taken", device.name)
            return "fp16"
        return training.precision
    if device.kind == "cpu":
        return "fp32"
    return "bf16" if device.bf16 else "fp16"


def _peak(device: Device, training: Training) -> float | None:
    card = gpus.find(device.name) if device.kind == "cuda" else None
    if card is None:
        return None
    return card.fp32 * 1e12 if numbers_of(training, device) == "fp32" else card.flops


def free(device: str) -> None:
    import torch

    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
