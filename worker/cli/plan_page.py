"""A plan as a person reads it: tables with bars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from worker.cli.table import bar, table
from worker.duration import spoken
from worker.planning.kinds import is_run
from worker.planning.plan import Plan
from worker.planning.span import Span
from worker.planning.work import Work

_BAR = 24
_PLANNED = "planned, not yet run by this worker"


def kinds(known: Iterable[type[Work[Any]]]) -> list[str]:
    return table(
        [[work.name, work.about + ("" if is_run(work.name) else f" ({_PLANNED})")] for work in known],
        most=140,
    )


def page(plan: Plan) -> list[str]:
    asked, machine = plan.asked, plan.asked.machine
    model = f" with {asked.shape.name} ({asked.shape.parameters.total / 1e9:.2f} B)" if asked.shape else ""
    return [
        f"{plan.task}{model} on {machine.told}: " + ("it fits" if plan.fits else "it does not fit"),
        "",
        *_memory(plan),
        *_rows("RAM", plan.needs.ram, plan.needs.ram_total),
        *_disk(plan),
        *_time(plan),
        *_money(plan),
        *([] if is_run(plan.task) else [f"note: {_PLANNED}"]),
        *(f"note: {note}" for note in plan.notes),
        *(f"lacks: {lack}" for lack in plan.lacks),
        *_instead(plan),
    ]


def _memory(plan: Plan) -> Iterator[str]:
    needs = plan.needs
    if not needs.gpu:
        return
    room = plan.asked.machine.room
    yield from _rows(
        "GPU memory, each card",
        needs.gpu,
        needs.gpu_total,
        f" of {room / 1e9:.1f} GB that may be used, ±{needs.error}",
    )
    best = f"; the largest that fits is {plan.best}" if plan.best else "; not even 1 fits"
    yield f"batch {plan.asked.batch}{best}"
    yield ""


def _rows(title: str, items: Mapping[str, float], total: float, more: str = " GB") -> list[str]:
    kept = [(name, size) for name, size in items.items() if size >= 5e6]
    most = max((size for _, size in kept), default=1.0)
    rows = [[f"  {name}", f"{size / 1e9:8.2f}", _bar(size, most)] for name, size in kept]
    return [f"{title}: {total / 1e9:.1f}{more}", *(table(rows) if rows else []), ""]


def _bar(size: float, most: float) -> str:
    return bar(round(1000 * size / most), 1000, _BAR).rstrip("░") or "▏"


def _disk(plan: Plan) -> Iterator[str]:
    disk = plan.needs.disk
    yield f"disk: {disk.now / 1e9:.0f} GB"
    there = [one for one in disk.kept if one.is_there(disk.step) and one.size >= 5e6]
    yield from table([[f"  {one.name}", f"{one.size / 1e9:8.1f}", one.told] for one in there])
    if len(disk.steps) > 1:
        steps = ", ".join(f"{step} {disk.at(step) / 1e9:.0f}" for step in disk.steps)
        yield f"  by step, if what may be deleted is: {steps}; if nothing ever is: {disk.all / 1e9:.0f}"
    yield ""


def _time(plan: Plan) -> Iterator[str]:
    if not plan.needs.seconds:
        return
    yield f"time: {_spoken(plan.seconds)}"
    shown = [(name, span) for name, span in plan.needs.seconds.items() if span.high >= 1]
    most = max((span.high for _, span in shown), default=1.0)
    yield from table([[f"  {name}", _spoken(span), _bar(span.high, most)] for name, span in shown])
    yield ""


def _spoken(span: Span) -> str:
    low, high = spoken(span.low), spoken(span.high)
    return low if low == high else f"{low} to {high}"


def _money(plan: Plan) -> Iterator[str]:
    for at, usd in plan.usd_at.items():
        yield f"cost{f', {at}' * bool(at)}: {_usd(usd)}"
    if not plan.needs.rented:
        yield from [f"cost: {_usd(plan.usd)}, besides the machine"] if plan.usd else []
    elif plan.price:
        yield f"  a GPU and hour: {_usd(plan.price.usd)} ({plan.price.source})"
    elif plan.asked.machine.gpu:
        yield f"cost: nobody knows a price for {plan.asked.machine.hw}; say --price USD"
    yield ""


def _usd(span: Span) -> str:
    low, high = f"${span.low:.2f}", f"${span.high:.2f}"
    return low if low == high else f"{low} to {high}"


def _instead(plan: Plan) -> Iterator[str]:
    if plan.fits:
        return
    if not plan.instead:
        yield "nothing that is known would fit"
        return
    yield "what would fit:"
    yield from table(
        [
            [f"  {one.change}", f"{one.gpu / 1e9:.1f} GB of GPU memory, {one.ram / 1e9:.0f} of RAM"]
            for one in plan.instead
        ]
    )
