"""What Prometheus may ask of the workers on this machine; the small parent process answers."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from worker.errors import UsageError
from worker.items import Json
from worker.standing import Standing

ADDRESS = "0.0.0.0"
"""whoever scrapes a container stands outside of it; nothing but these numbers can be read"""
LABELS = ("member", "device")
"""a member keeps its number when its process dies and another one comes"""


class Standings(Collector):
    def __init__(self, ask: Callable[[], Sequence[Standing]]) -> None:
        self._ask = ask

    def describe(self) -> Iterable[Metric]:
        return ()  # else the registry would ask at once, before there are any workers

    def collect(self) -> Iterator[Metric]:
        members = {(str(number), one.device): one for number, one in enumerate(self._ask(), 1)}
        yield from (
            _counter(members, "items_answered", "Items answered, failed ones included", lambda m: m.answered),
            _counter(members, "items_failed", "Items that failed", lambda m: m.failed),
            _counter(members, "deaths", "Working processes that died", lambda m: m.deaths),
            _gauge(members, "items_per_second", "Since the process started", _said("rate_per_s")),
            _gauge(
                members, "device_wait_share", "Of the time: room, and work in hand", _said("waited_share")
            ),
            _gauge(members, "beat_age_seconds", "Since a beat reached the store", lambda m: m.silence_s),
            _up(members),
            _of_the_queue(members, "shards", "Shards in the queue, as the workers last saw it"),
            _of_the_queue(members, "shards_done", "Shards committed, as the workers last saw it"),
        )


Members = dict[tuple[str, str], Standing]


def _said(key: str) -> Callable[[Standing], float]:
    return lambda member: _number(member.info.get(key))


def _number(value: Json) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _counter(members: Members, name: str, about: str, value: Callable[[Standing], float]) -> Metric:
    family = CounterMetricFamily(f"worker_{name}", about, labels=LABELS)
    for labels, member in members.items():
        family.add_metric(labels, value(member))
    return family


def _gauge(members: Members, name: str, about: str, value: Callable[[Standing], float]) -> Metric:
    family = GaugeMetricFamily(f"worker_{name}", about, labels=LABELS)
    for labels, member in members.items():
        family.add_metric(labels, value(member))
    return family


def _up(members: Members) -> Metric:
    about = "1 while a process works; `worker` is its name in `worker status`"
    family = GaugeMetricFamily("worker_up", about, labels=(*LABELS, "worker"))
    for labels, member in members.items():
        family.add_metric((*labels, member.worker[:8]), bool(member.worker))
    return family


def _of_the_queue(members: Members, key: str, about: str) -> Metric:
    family = GaugeMetricFamily(f"worker_{key}", about)
    family.add_metric((), max((_number(member.info.get(key)) for member in members.values()), default=0.0))
    return family


def refuse_taken(port: int) -> None:
    """Before the work begins: a mistyped port shall not be noticed after an hour of enqueueing."""
    try:
        socket.create_server((ADDRESS, port)).close()
    except OSError as error:
        raise _refusal(port, error) from error


@contextmanager
def served(port: int, ask: Callable[[], Sequence[Standing]]) -> Iterator[None]:
    """At http://machine:port/metrics."""
    registry = CollectorRegistry()
    registry.register(Standings(ask))
    try:
        server, thread = start_http_server(port, ADDRESS, registry)
    except OSError as error:
        raise _refusal(port, error) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _refusal(port: int, error: OSError) -> UsageError:
    taken = error.errno == errno.EADDRINUSE
    why = "another program listens there" if taken else error.strerror or str(error)
    return UsageError(f"--metrics {port}: {why}; name another port")
