"""The cluster's cards: its nodes' slots, and the pods that have some of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from worker.gpus.inventory import Node, Use
from worker.gpus.kube.api import Api
from worker.gpus.kube.mirror import Mirror
from worker.gpus.kube.objects import Accelerators

FIRST_LOOK_S = 5.0
NODES, PODS = "/api/v1/nodes", "/api/v1/pods"
ALIVE = {"fieldSelector": "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"}


class KubernetesCluster:
    def __init__(self, api: Api, accelerators: Accelerators) -> None:
        self._nodes = Mirror(api, NODES, accelerators.node)
        self._pods = Mirror(api, PODS, accelerators.uses, ALIVE)

    def follow(self, changed: Callable[[], None]) -> None:
        self._nodes.follow(changed)
        self._pods.follow(changed)

    def close(self) -> None:
        self._nodes.close()
        self._pods.close()

    def look(self) -> Sequence[Node]:
        nodes = self._nodes.found(FIRST_LOOK_S)
        uses: dict[str, list[Use]] = defaultdict(list)
        for node, taken in self._pods.found(FIRST_LOOK_S):
            uses[node] += taken
        return [
            replace(node, uses=(*node.uses, *sorted(uses[node.name], key=lambda use: use.pod)))
            for node in sorted(nodes, key=lambda node: node.name)
        ]
