"""What Prometheus reads of the cards, under dcgm-exporter's names. What is unknown is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from worker.gpus.glance import Glance
from worker.gpus.inventory import Card
from worker.gpus.kinds import NVIDIA

LABELS = ("gpu", "UUID", "pci_bus_id", "device", "modelName", "GPU_I_ID", "Hostname")
"""as dcgm-exporter has them; an empty one is none to Prometheus"""
MIB = 1 << 20

Read = Callable[[Card], float | None]


def _percent(share: float | None) -> float | None:
    return None if share is None else round(share * 100, 3)


def _used(card: Card) -> float | None:
    return None if card.used_gb is None else round(card.used_gb * 1e9 / MIB)


def _free(card: Card) -> float | None:
    return None if card.used_gb is None else round((card.memory_gb - card.used_gb) * 1e9 / MIB)


DCGM: Mapping[str, tuple[str, Read]] = {
    "GPU_UTIL": ("GPU utilization (in %).", lambda card: _percent(card.busy)),
    "MEM_COPY_UTIL": ("Memory utilization (in %).", lambda card: _percent(card.figures.copying)),
    "FB_USED": ("Framebuffer memory used (in MiB).", _used),
    "FB_FREE": ("Framebuffer memory free (in MiB).", _free),
    "GPU_TEMP": ("GPU temperature (in C).", lambda card: card.figures.temperature_c),
    "POWER_USAGE": ("Power draw (in W).", lambda card: card.figures.power_w),
    "SM_CLOCK": ("SM clock frequency (in MHz).", lambda card: card.figures.clock_mhz),
    "XID_ERRORS": ("Value of the last XID error encountered.", lambda card: card.figures.xid),
}


@dataclass(frozen=True, slots=True)
class Own:
    """Of the server itself."""

    refused: Mapping[str, int]
    readers: int


def exposition(glance: Glance, own: Own, accepted: str) -> tuple[bytes, str]:
    """With its content type."""
    registry = CollectorRegistry()
    registry.register(_Collector(glance, own))
    encode, kind = choose_encoder(accepted)
    return encode(registry), kind


class _Collector(Collector):
    def __init__(self, glance: Glance, own: Own) -> None:
        self._glance = glance
        self._own = own

    def describe(self) -> Iterable[Metric]:
        return ()  # else the registry would collect twice

    def collect(self) -> Iterator[Metric]:
        cards = [(card, _labels(card)) for node in self._glance.nodes for card in node.cards]
        for name, (about, read) in DCGM.items():
            family = GaugeMetricFamily(f"DCGM_FI_DEV_{name}", about, labels=LABELS)
            for card, labels in cards:
                if (value := read(card)) is not None:
                    family.add_metric(labels, value)
            yield family
        yield from self._ours()

    def _ours(self) -> Iterator[Metric]:
        glance = self._glance
        states = GaugeMetricFamily("worker_gpu_cards", "Cards, by what they are for", labels=["state"])
        counts = Counter(state(glance, card) for node in glance.nodes for card in node.cards)
        for name in ("free", "held", "foreign", "ill"):
            states.add_metric([name], counts[name])
        yield states
        yield GaugeMetricFamily("worker_gpu_allocations", "Allocations", len(glance.allocations))
        yield GaugeMetricFamily("worker_gpu_waiting", "Requests in line", len(glance.waiting))
        yield GaugeMetricFamily("worker_gpu_event_readers", "Who follow the events", self._own.readers)
        refused = CounterMetricFamily("worker_gpu_refused", "Requests refused, by reason", labels=["reason"])
        for reason, number in sorted(self._own.refused.items()):
            refused.add_metric([reason], number)
        yield refused


def state(glance: Glance, card: Card) -> str:
    """Foreign: what runs there was not started through the manager."""
    if card.uuid in glance.holder:
        return "held"
    return "ill" if card.trouble else "foreign" if card.used else "free"


def _labels(card: Card) -> tuple[str, ...]:
    figures = card.figures
    device = figures.device or (f"nvidia{card.index}" if card.maker == NVIDIA else "")
    slice_ = "" if figures.instance is None else str(figures.instance)
    model = figures.model or card.kind
    return str(card.index), card.uuid, figures.pci_bus_id, device, model, slice_, card.node
