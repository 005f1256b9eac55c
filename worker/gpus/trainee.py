"""A process that trains. apprentices.py starts it, with its cards in its environment.

It reads one line of JSON, and answers in lines of JSON: nothing of another process is unpickled."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from worker.errors import WorkerError
from worker.gpus.frameworks import Prepared


def main() -> None:
    answers = _answers()
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_parent, daemon=True).start()

    def tell(kind: str, what: Any) -> None:
        answers.write(json.dumps({kind: what}) + "\n")
        answers.flush()

    try:
        result = _train(order, lambda what: tell("progress", dict(what)))
        tell("result", result)
    except BaseException as error:
        if isinstance(error, WorkerError):
            said = str(error)
        else:
            said = f"{type(error).__name__}: {error}".rstrip(": ")
        tell("error", {"said": said, "traceback": traceback.format_exc()})


def _answers() -> IO[str]:
    """The pipe, for nobody else: what a training prints goes where errors go."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return pipe


def _end_with_the_parent() -> None:
    """It holds the other end of our input, and writes nothing more: at its end this group ends."""
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


def _train(order: Mapping[str, Any], progress: Callable[[Mapping[str, Any]], None]) -> Any:
    from worker.gpus.algorithms import ALGORITHMS, INTEGRATIONS

    name = order["algorithm"]
    algorithm = ALGORITHMS[name] if name in ALGORITHMS else load(name)
    integration = INTEGRATIONS[order["framework"]]() if order["framework"] else None
    if integration:
        ready = Prepared.model_validate(order["ready"])
        method = getattr(integration, f"setup_{order['framework']}_gpu")
        method(ready, node_name=ready.told.node_name, rehearse=order["rehearse"])
    first = os.environ.get("RANK", "0") == "0"
    result = algorithm(order["parameters"], progress if first else lambda _: None)
    if integration:
        integration.close()
    return result if first else None


def load(name: str) -> Callable[..., Any]:
    """`package.module:function`, or `/a/script.py:function`"""
    place, _, function = name.rpartition(":")
    if not place.endswith(".py"):
        module = importlib.import_module(place)
    else:
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look for their module there
        sys.path.insert(0, str(Path(place).parent))
        spec.loader.exec_module(module)
    found: Callable[..., Any] = getattr(module, function)
    return found
