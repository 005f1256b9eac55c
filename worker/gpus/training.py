"""A training that takes its own cards, and gives them back however it ends."""

from __future__ import annotations

import asyncio
import logging
import queue
import socket
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from worker.errors import UsageError, WorkerError
from worker.gpus import library, tenants
from worker.gpus.allocation import Allocation
from worker.gpus.apprentices import Apprentices, Ended, Heard
from worker.gpus.forms import AllocateTold, allocate_told, cpu_told
from worker.gpus.frameworks import Prepared, prepared
from worker.gpus.manager import GpuResourceManager
from worker.gpus.orders import Order, read_order
from worker.gpus.refusals import Refusal
from worker.gpus.surroundings import environment

Progress = Callable[[Mapping[str, Any]], object]

GIVING_BACK_S = 30.0
"""after which the ledger is taken for closed, or ill"""

log = logging.getLogger(__name__)


class TrainingError(WorkerError):
    """The training itself failed."""

    exit_code = 1


class TrainingTold(BaseModel):
    model_config = ConfigDict(frozen=True)

    success: bool = True
    algorithm: str
    result: Any
    """what the algorithm answered"""
    device: str
    """of PyTorch: cuda, cpu …; of others gpu or cpu"""
    gpu_config: dict[str, Any]
    """what it was allocated"""
    message: str = ""
    """why it ran on the CPU, or with less"""


class AlgorithmTrainingEngine:
    """`rehearse`: all of it but on the CPU, for the cards of a described cluster."""

    def __init__(self, *, rehearse: bool = False) -> None:
        self._rehearse = rehearse

    async def train_algorithm(
        self,
        algorithm: str | Callable[..., Any],
        parameters: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> TrainingTold:
        """`algorithm`: mlp, `module:function`, or a function of a module or a script; it is called with the
        other parameters and a function for its progress, in a process that sees its own cards alone.

        Of the parameters `gpu_config` says which GPUs (none: the CPU), and `framework` (pytorch, tensorflow,
        or empty) what to set up."""
        loop = asyncio.get_running_loop()
        failed: list[Exception] = []

        def tell(what: Mapping[str, Any]) -> None:
            try:
                progress and progress(what)
            except Exception as error:
                failed.append(error)
                training.stop()

        # in order, and before the end is told
        order = read_order(algorithm, dict(parameters or {}), self._rehearse)
        training = _Training(order, lambda what: loop.call_soon_threadsafe(tell, what))
        ended: Future[TrainingTold | None] = Future()
        threading.Thread(target=training.run, args=(ended,), name="training", daemon=True).start()
        told = await _to_its_end(ended, training.stop)
        if failed:
            raise failed[0]
        assert told
        return told


class _Stop:
    """Somebody cancelled it."""


class _Stopped(Exception):
    """And so it ended."""


@dataclass(frozen=True, slots=True)
class _Lost:
    why: str


class _Training:
    """A thread for all that waits: cancelled or not, it goes to its end. What it hears comes one by one."""

    def __init__(self, order: Order, progress: Progress) -> None:
        self._order = order
        self._progress = progress
        self._heard: queue.SimpleQueue[Heard | Ended | Future[Allocation] | _Stop | _Lost] = (
            queue.SimpleQueue()
        )
        self._key = f"training-{uuid.uuid4().hex}"

    def stop(self) -> None:
        self._heard.put(_Stop())

    def run(self, ended: Future[TrainingTold | None]) -> None:
        """None: it was stopped."""
        try:
            ended.set_result(self._run())
        except _Stopped:
            ended.set_result(None)
        except BaseException as error:
            ended.set_exception(error)

    def _run(self) -> TrainingTold:
        wanted = self._order.wanted
        # processes here cannot use cards elsewhere
        here = wanted.model_copy(update={"distributed_training": False})
        if not wanted.enabled:
            return self._train(prepared(cpu_told(wanted, "no GPU was asked for"), None))
        try:
            manager = library.get_gpu_resource_manager()
            here, plan = manager.planned(here)
            asked = manager.allocate(here, self._key, tenants.this())
        except Refusal as refused:
            return self._without(refused)
        made: Allocation | None = None
        try:
            asked.add_done_callback(self._heard.put)
            try:
                made = self._granted()
            except Refusal as refused:
                return self._without(refused)
            library.keep(manager, made, lambda why: self._heard.put(_Lost(why)))
            told = allocate_told(here, made, plan, manager.tolerations)
            told.gpu_config.distributed_training = wanted.distributed_training
            self._check_here(told)
            return self._train(prepared(told, made))
        finally:
            if made:
                library.keep_no_more(made)
            self._give_back(manager)

    def _give_back(self, manager: GpuResourceManager) -> None:
        """However far it came."""
        try:
            manager.withdraw(self._key).result(GIVING_BACK_S)
        except Exception as error:  # what the training ended with matters more
            log.warning("its cards come back when their lease ends: %s", str(error) or type(error).__name__)

    def _without(self, refused: Refusal) -> TrainingTold:
        if not library.does_without(self._order.wanted, refused):
            raise refused
        return self._train(prepared(cpu_told(self._order.wanted, str(refused)), None))

    def _granted(self) -> Allocation:
        answer = self._heard.get()
        if isinstance(answer, Future):
            return answer.result()
        raise _Stopped

    def _check_here(self, told: AllocateTold) -> None:
        if told.node_name != socket.gethostname() and not self._order.rehearse:
            raise UsageError(
                f"{told.node_name} is not this machine ({socket.gethostname()}): a training starts its "
                "processes where it is called; cards that only a file describes can be rehearsed: "
                "rehearse=True"
            )

    def _train(self, ready: Prepared) -> TrainingTold:
        order, told = self._order, ready.told
        told_now = told.gpu_config.model_dump()
        self._progress(
            {"stage": "start", "node_name": told.node_name, "gpu_config": told_now, "message": told.message}
        )
        if told.message and order.wanted.enabled:
            log.warning("%s: %s", order.algorithm, told.message)
        by_rank = order.framework == "pytorch"
        apprentices = Apprentices(
            {
                "algorithm": order.algorithm,
                "framework": order.framework,
                "parameters": order.parameters,
                "ready": ready.model_dump(),
                "rehearse": order.rehearse,
            },
            environment(told),
            ready.pytorch.nproc_per_node if by_rank else 1,
            self._heard.put,
        )
        try:
            result = self._listen(ready.pytorch.nproc_per_node if by_rank else 1)
        finally:
            apprentices.end()
        on_card = ready.pytorch.device if by_rank else "gpu"
        device = on_card if told.gpu_config.enabled and not order.rehearse else "cpu"
        return TrainingTold(
            algorithm=order.algorithm, result=result, device=device, gpu_config=told_now, message=told.message
        )

    def _listen(self, processes: int) -> Any:
        results: dict[int, Any] = {}
        while True:
            match self._heard.get():
                case Heard(rank, {"result": result}):
                    results[rank] = result
                case Heard(_, {"progress": what}):
                    self._progress({"stage": "training", **what})
                case Heard(_, {"error": what}):
                    error = TrainingError(f"{self._order.algorithm}: {what['said']}")
                    error.add_note(what["traceback"])
                    raise error
                case Ended(rank, code) if rank not in results:
                    raise TrainingError(f"{self._order.algorithm}: its process ended {_how(code)}")
                case Ended() if len(results) == processes:
                    return results[0]
                case _Stop():
                    raise _Stopped
                case _Lost(why):
                    raise TrainingError(f"{self._order.algorithm}: its cards were taken back: {why}")


async def _to_its_end(ended: Future[TrainingTold | None], stop: Callable[[], None]) -> TrainingTold | None:
    """Cancelled, it still waits until the cards are back, however often it is cancelled again."""
    answer = asyncio.wrap_future(ended)
    cancelled: asyncio.CancelledError | None = None
    while not answer.done():
        try:
            await asyncio.wait([answer])
        except asyncio.CancelledError as error:
            cancelled = error
            stop()
    if cancelled:
        answer.exception()  # nobody will ask for it
        raise cancelled
    return answer.result()


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code} and without an answer"
    return f"by signal {-code}: was there enough memory? The log of the kernel says more"
