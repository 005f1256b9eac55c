"""The REST interface. Who may ask is decided in gate.py, what is answered in manager.py and reports.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import FastAPI, Header, Path, Query, Request
from fastapi.responses import Response

from worker import __version__
from worker.gpus import forms, frameworks, reports
from worker.gpus.allocation import Allocation
from worker.gpus.allocation import Request as Wanted
from worker.gpus.answers import add_refusals
from worker.gpus.forms import TrainingGPUConfig
from worker.gpus.gate import Gate
from worker.gpus.live import add_live
from worker.gpus.manager import GpuResourceManager
from worker.gpus.refusals import Reason, Refusal, language
from worker.gpus.wanted import gpu_type as read_type

PREFIX = "/api/v1/gpu"
GUARDED = (PREFIX, "/metrics")
ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": forms.ErrorTold} for code in (401, 404, 409, 413, 422, 503)
}

Name = Annotated[str, Path(max_length=253)]
Key = Annotated[
    str, Header(alias="Idempotency-Key", max_length=200, description="the same key, the same answer")
]


def create_app(manager: GpuResourceManager, token: str = "", hosts: Sequence[str] = ()) -> FastAPI:
    app = FastAPI(
        title="GPU resource manager",
        version=__version__,
        responses=ERRORS,
        docs_url=None,  # FastAPI's loads its scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(Gate, prefix=GUARDED, open_paths=(f"{PREFIX}/health",), token=token, hosts=hosts)
    add_refusals(app)
    _looking(app, manager)
    add_live(app, manager, PREFIX)
    _holding(app, manager)
    return app


def _looking(app: FastAPI, manager: GpuResourceManager) -> None:
    @app.get(f"{PREFIX}/status", response_model=forms.StatusTold)
    async def status() -> Response:
        return _json(await asyncio.wrap_future(manager.ask(reports.status)))

    @app.get(f"{PREFIX}/nodes", response_model=forms.NodesTold)
    async def nodes(
        gpu_type: Annotated[str, Query(max_length=100)] = "",
        min_memory_gb: Annotated[float, Query(ge=0, allow_inf_nan=False)] = 0.0,
    ) -> Response:
        wanted = read_type(gpu_type)
        memory = max(min_memory_gb, wanted.memory_gb or 0.0)
        suiting = Wanted(kind=wanted.kind, maker=wanted.maker, memory_gb=memory, resource=wanted.exactly)
        found = await asyncio.wrap_future(
            manager.ask(lambda ledger: list(reports.available(ledger, suiting)))
        )
        return _json({"nodes": found})

    @app.get(f"{PREFIX}/health")
    async def health() -> forms.HealthTold:
        manager.check_ready()
        return forms.HealthTold(status="ready")


def _holding(app: FastAPI, manager: GpuResourceManager) -> None:
    @app.post(f"{PREFIX}/allocate")
    async def allocate(asked: TrainingGPUConfig, request: Request, key: Key = "") -> forms.AllocateTold:
        if not asked.enabled:
            return forms.cpu_told(asked, "no GPU was asked for")
        try:
            asked, plan = await asyncio.to_thread(manager.planned, asked)
            made = await asyncio.wrap_future(manager.allocate(asked, key))
        except Refusal as refused:
            if forms.will_do_without(asked, refused):
                return forms.cpu_told(asked, str(refused))
            raise
        if asked.wait_s and not key and await request.is_disconnected():
            await asyncio.wrap_future(manager.release(made.id))
        return forms.allocate_told(asked, made, plan, manager.tolerations)

    @app.post(f"{PREFIX}/validate")
    async def validate(asked: TrainingGPUConfig, request: Request) -> forms.ValidateTold:
        try:
            asked, plan = await asyncio.to_thread(manager.planned, asked)
            free = await asyncio.wrap_future(manager.validate(asked))
            return forms.ValidateTold(valid=True, available_now=free, plan=plan)
        except Refusal as refused:
            if refused.reason is Reason.NOT_READY:
                raise
            message = refused.text(language(request.headers.get("accept-language", "")))
            return forms.ValidateTold(
                valid=False, available_now=False, code=refused.reason.code, message=message
            )

    @app.post(f"{PREFIX}/setup-pytorch")
    async def setup_pytorch(asked: frameworks.SetupForm) -> frameworks.PyTorchSettings:
        return frameworks.pytorch(asked.gpu_config, await held(asked.allocation_id))

    @app.post(f"{PREFIX}/setup-tensorflow")
    async def setup_tensorflow(asked: frameworks.SetupForm) -> frameworks.TensorFlowSettings:
        return frameworks.tensorflow(asked.gpu_config, await held(asked.allocation_id))

    async def held(name: str) -> Allocation | None:
        return await asyncio.wrap_future(manager.ask(lambda ledger: ledger.get(name))) if name else None

    @app.delete(PREFIX + "/cleanup/{node}")
    async def cleanup(node: Name) -> forms.ReleasedTold:
        ended = await asyncio.wrap_future(manager.clean(node))
        return forms.ReleasedTold(success=True, released=[one.id for one in ended])

    @app.get(PREFIX + "/allocations/{name}")
    async def allocation(name: Name) -> forms.LeaseTold:
        return _lease(
            *await asyncio.wrap_future(manager.ask(lambda ledger: (ledger.get(name), ledger.left(name))))
        )

    @app.post(PREFIX + "/allocations/{name}/renew")
    async def renew(name: Name) -> forms.LeaseTold:
        return _lease(*await asyncio.wrap_future(manager.renew(name)))

    @app.delete(PREFIX + "/allocations/{name}")
    async def release(name: Name) -> forms.ReleasedTold:
        ended = await asyncio.wrap_future(manager.release(name))
        return forms.ReleasedTold(success=True, released=[ended.id])


def _lease(made: Allocation, left: float) -> forms.LeaseTold:
    return forms.LeaseTold(
        allocation_id=made.id, owner=made.request.owner, cards=forms.cards_told(made), lease_s=round(left, 3)
    )


def _json(told: object) -> Response:
    return Response(json.dumps(told), media_type="application/json")
