"""What a pod has to say to get the cards that an allocation holds for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, Field

from worker.gpus.allocation import Allocation
from worker.gpus.kube.objects import LABEL
from worker.gpus.kube.tolerations import Toleration


class PodTold(BaseModel):
    """One for each pod of the allocation."""

    node_name: str
    resource: str
    count: int
    fragment: dict[str, Any] = Field(description="for the pod; put image and command into its container")


def pods(made: Allocation, tolerations: Sequence[Toleration] = ()) -> Iterator[PodTold]:
    """A member is a pod; what was split over nodes is one on each. Nothing outside of a cluster."""
    numbers = Counter((card.node, card.resource) for card in made.cards if card.resource)
    for (node, resource), number in numbers.items():
        parts = number // made.request.count if number % made.request.count == 0 else 1
        for _ in range(parts):
            yield PodTold(
                node_name=node,
                resource=resource,
                count=number // parts,
                fragment=_fragment(made.id, node, resource, number // parts, tolerations),
            )


def _fragment(
    name: str, node: str, resource: str, count: int, tolerations: Sequence[Toleration]
) -> dict[str, Any]:
    here = {"key": "metadata.name", "operator": "In", "values": [node]}
    spec: dict[str, Any] = {
        # by the node's own name, and through the scheduler: nodeName would pass it by
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchFields": [here]}]
                }
            }
        },
        "containers": [{"name": "worker", "resources": {"limits": {resource: str(count)}}}],
    }
    if tolerations:
        spec["tolerations"] = [one.told() for one in tolerations]
    return {"metadata": {"labels": {LABEL: name}}, "spec": spec}
