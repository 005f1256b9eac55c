"""The options of `worker launch azureml` alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

OPTIONS: tuple[Callable[[Any], Any], ...] = ()
