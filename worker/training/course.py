"""What is trained, on what, and how it is judged: what a kind of training brings to the core."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.jobs.workspace import Checkpoint
    from worker.training.world import World


@dataclass(frozen=True, slots=True)
class Tried:
    """What the model said of one data set."""

    loss: float
    outputs: Any
    """an array, a row a sample"""
    labels: Any


@dataclass(frozen=True, slots=True)
class Course:
    model: Any
    train: Sequence[Any]
    tests: Mapping[str, Sequence[Any]]
    collate: Callable[[Sequence[Any]], Mapping[str, Any]]
    """samples → a batch; what is to be said of it lies there as `labels`"""
    loss: Callable[..., Any]
    """of outputs, labels, and `num_items_in_batch`: of how many samples the step is made"""
    measure: Callable[[Mapping[str, Tried]], Mapping[str, float]]
    """the names of what is measured, without eval/"""
    best_by: str
    """one of these names: higher is better"""
    flops: float
    """of one sample, forward and backward"""
    longest: int = 0
    """the sample of `train` that takes the most memory"""
    told: Callable[[Mapping[str, Tried]], Mapping[str, str]] = lambda _: {}
    """files of the record, by name: what the best model said"""
    said: Callable[[Any, Any], Any] | None = None
    """of a batch's outputs and labels: the part of them that is kept of an evaluation; None: the outputs"""
    ask: Callable[[World, Callable[[], None]], Mapping[str, Tried]] = lambda *_: {}
    """what an evaluation finds out besides, more than one pass through the model; to be told now and then
    that it goes on"""
    require_same: Callable[[Checkpoint], None] | None = None
    """refuses a checkpoint of a training that had other weights or another aim"""

    def compute_again(self) -> None:
        """What layers computed, for their gradients, instead of keeping it."""
        # older transformers have the other name alone
        newer = getattr(self.model, "activation_checkpointing_enable", None)
        (newer or self.model.gradient_checkpointing_enable)({"use_reentrant": False})
        # transformers asks for gradients of what goes in, which not even a frozen tower could do without then
        self.model.disable_input_require_grads()
