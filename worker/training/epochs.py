"""Tells a data set that changes from one time through to the next, which time it is."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback


class Epochs(TrainerCallback):  # type: ignore[misc]
    """accelerate tells it too, but not behind a resume, and not where processes share a data set."""

    def __init__(self, train: Any) -> None:
        self._tell = getattr(train, "set_epoch", None)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if self._tell:
            self._tell(int(state.epoch or 0))
