"""What nodes and pods say of accelerators: decisions over what the API server tells, without I/O."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from worker.gpus.inventory import Card, Node, Use
from worker.gpus.kinds import AMD, ASCEND, GIB, INTEL, NVIDIA, kind_of, memory_in, named
from worker.gpus.kube.api import Object
from worker.gpus.kube.tolerations import Toleration, tolerated
from worker.gpus.wanted import RESOURCES

LABEL = "gpu-batch-worker/allocation"
"""of a pod: whose cards it uses"""
UNKNOWN = "unknown"
"""a kind that no label tells"""

MIG = re.compile(r"nvidia\.com/(mig-(?:\d+c\.)?\d+g\.(\d+)gb[\w.-]*)")
ASCENDS = re.compile(r"huawei\.com/(ascend\d+[a-z]*\d*)(-\d+c[\w.]*)?", re.IGNORECASE)
PRODUCTS = {
    NVIDIA: ("nvidia.com/gpu.product", "cloud.google.com/gke-accelerator"),
    AMD: ("amd.com/gpu.product-name", "beta.amd.com/gpu.product-name"),
    INTEL: ("gpu.intel.com/product",),
    ASCEND: ("node.kubernetes.io/npu.chip.name",),
}
MEMORIES = {NVIDIA: ("nvidia.com/gpu.memory",), AMD: ("amd.com/gpu.vram", "beta.amd.com/gpu.vram")}
TOLD_OTHERWISE = {f"node.kubernetes.io/{what}" for what in ("unschedulable", "not-ready", "unreachable")}


@dataclass(frozen=True, slots=True)
class Accelerators:
    """Which resources count as such, and what is known of their kinds."""

    resources: Mapping[str, str]
    """makers, by names in lower case"""
    sizes: Mapping[str, float]
    """GB of a kind, where no label tells"""
    tolerations: Sequence[Toleration] = ()

    def maker(self, resource: str) -> str:
        """Empty: no accelerator."""
        known = self.resources.get(resource.casefold()) or RESOURCES.get(resource.casefold())
        if known:
            return known
        if MIG.fullmatch(resource):
            return NVIDIA
        return ASCEND if ASCENDS.fullmatch(resource) else ""

    def node(self, told: Object) -> Node | None:
        """Its cards, and the ill ones as a use of them; None: it has none."""
        name, status = told["metadata"]["name"], told.get("status", {})
        labels = told["metadata"].get("labels") or {}
        there, healthy = _counts(status.get("capacity")), _counts(status.get("allocatable"))
        cards: list[Card] = []
        ill: list[Use] = []
        for resource in sorted({*there, *healthy}):
            if not (maker := self.maker(resource)):
                continue
            number = max(there[resource], healthy[resource])
            kind, memory = self._describe(resource, maker, labels)
            trouble = "; ".join(self._troubles(told))
            cards += [
                Card(
                    name,
                    index,
                    f"{name}/{resource}/{index}",
                    kind,
                    maker,
                    memory,
                    resource=resource,
                    trouble=trouble,
                )
                for index in range(number)
            ]
            if missing := number - healthy[resource]:
                why = f"the device plugin offers {healthy[resource]} of {number} {resource}"
                ill.append(Use(resource, missing, trouble=why))
        return Node(name, tuple(cards), tuple(ill)) if cards else None

    def uses(self, told: Object) -> tuple[str, tuple[Use, ...]] | None:
        """A pod's node, and what it has there; None: nothing."""
        spec, metadata = told.get("spec", {}), told["metadata"]
        node = spec.get("nodeName")
        if not node or told.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return None
        name = f"{metadata['namespace']}/{metadata['name']}"
        allocation = (metadata.get("labels") or {}).get(LABEL, "")
        needs = {
            resource: count for resource, count in _needs(spec).items() if self.maker(resource) and count
        }
        uses = tuple(Use(resource, count, name, allocation) for resource, count in sorted(needs.items()))
        return (node, uses) if uses else None

    def _describe(self, resource: str, maker: str, labels: Mapping[str, str]) -> tuple[str, float]:
        product = next((labels[one] for one in PRODUCTS[maker] if labels.get(one)), "")
        ascend = ASCENDS.fullmatch(resource)
        if ascend:
            product = f"Ascend{product}" if product else ascend[1]
        without, memory = memory_in(re.sub(r"-(MIG-.*|SHARED)$", "", product))
        kind = named(without) if product else UNKNOWN
        replicas = labels.get(f"{resource}.replicas", "")
        shared = int(replicas) if re.fullmatch(r"[0-9]{1,4}", replicas) else 1
        if told := _memory_told(resource, maker, labels):
            return kind, told / max(shared, 1)
        if ascend and ascend[2]:
            return kind, 0.0  # a slice of one, and nobody says how large
        sold = kind_of(kind).sizes if kind_of(kind) else ()  # type: ignore[union-attr]
        return kind, (memory or self.sizes.get(kind) or min(sold, default=0.0)) / max(shared, 1)

    def _troubles(self, told: Object) -> Iterator[str]:
        spec = told.get("spec", {})
        if spec.get("unschedulable"):
            yield f"cordoned: kubectl uncordon {told['metadata']['name']}"
        conditions = told.get("status", {}).get("conditions") or ()
        ready: Object = next((one for one in conditions if one["type"] == "Ready"), {})
        if ready.get("status") != "True":
            yield f"not ready: {ready.get('message') or ready.get('reason') or 'its kubelet says nothing'}"
        for taint in spec.get("taints") or ():
            if taint["effect"] == "PreferNoSchedule" or taint["key"] in TOLD_OTHERWISE:
                continue
            if not tolerated(taint, self.tolerations):
                value = f"={taint['value']}" if taint.get("value") else ""
                said = f"{taint['key']}{value}:{taint['effect']}"
                yield f"tainted {said}: take it all the same with --tolerate {taint['key']}"


def _memory_told(resource: str, maker: str, labels: Mapping[str, str]) -> float | None:
    """GB; a bare number counts MiB."""
    names: Iterable[str] = MEMORIES.get(maker, ())
    mig = MIG.fullmatch(resource)
    if mig:
        names = (f"{resource}.memory",)
    for name in names:
        said = labels.get(name, "")
        if re.fullmatch(r"\d+", said):
            return int(said) * GIB / 1024
        if (size := memory_in(said)[1]) is not None:
            return size
    return float(mig[2]) if mig else None


def _counts(told: Mapping[str, object] | None) -> Counter[str]:
    found: Counter[str] = Counter()
    for resource, amount in (told or {}).items():
        if whole := re.fullmatch(r"(\d+)(k?)", str(amount)):
            found[resource] = int(whole[1]) * (1000 if whole[2] else 1)
    return found


def _needs(spec: Object) -> Counter[str]:
    """As the scheduler counts: what starts before the containers may use what they will."""
    together: Counter[str] = Counter()
    before: Counter[str] = Counter()
    for one in spec.get("initContainers") or ():
        asked = _asked(one)
        before |= together + asked
        if one.get("restartPolicy") == "Always":  # it stays
            together += asked
    for one in spec.get("containers") or ():
        together += _asked(one)
    return together | before


def _asked(container: Object) -> Counter[str]:
    resources = container.get("resources") or {}
    return _counts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})
