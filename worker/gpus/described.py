"""A cluster that a file describes, for planning and for tests.

nodes:
  - {name: gpu, copies: 1000, gpus: 8xA100-80GB, nvlink: all, numa: [[0, 1, 2, 3], [4, 5, 6, 7]]}
  - {name: old, gpus: 2xV100-32GB, ill: {1: row remapping failed}}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from worker.gpus.inventory import Card, Node
from worker.gpus.kinds import KINDS
from worker.gpus.refusals import Reason, Refusal
from worker.gpus.wanted import parse

Group = tuple[Annotated[int, Field(ge=0)], ...]


class NodeEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[
        str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
    ]
    gpus: str
    copies: Annotated[int, Field(ge=1, le=100_000)] | None = None
    nvlink: Literal["all"] | tuple[Group, ...] = ()
    numa: tuple[Group, ...] = ()
    ill: dict[int, str] = {}


class ClusterFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    nodes: tuple[NodeEntry, ...]


class DescribedCluster:
    """Read anew at each look: who edits the file changes the cluster."""

    def __init__(self, file: Path, sizes: Mapping[str, float] = MappingProxyType({})) -> None:
        """`sizes`: GB of kinds whose size the file leaves open."""
        self._file = file
        self._sizes = sizes
        self._read: tuple[int, Sequence[Node]] | None = None

    def look(self) -> Sequence[Node]:
        try:
            written = self._file.stat().st_mtime_ns
            if self._read is None or self._read[0] != written:
                self._read = written, nodes(self._file.read_text("utf-8"), str(self._file), self._sizes)
        except OSError as error:
            raise Refusal(Reason.WRONG_FILE, file=self._file, said=error.strerror) from error
        except UnicodeDecodeError as error:
            raise Refusal(Reason.WRONG_FILE, file=self._file, said=str(error)) from error
        return self._read[1]


def nodes(text: str, file: str, sizes: Mapping[str, float]) -> Sequence[Node]:
    import yaml

    try:
        told = ClusterFile.model_validate(yaml.safe_load(text))
        found = [node for entry in told.nodes for node in _nodes(entry, sizes)]
    except (yaml.YAMLError, pydantic.ValidationError, Refusal) as error:
        raise Refusal(Reason.WRONG_FILE, file=file, said=" ".join(str(error).split())) from error
    counts = Counter(node.name for node in found)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise Refusal(Reason.WRONG_FILE, file=file, said=f"two nodes are called {twice[0]}")
    return found


def _nodes(entry: NodeEntry, sizes: Mapping[str, float]) -> list[Node]:
    if entry.copies is None:
        return [_node(entry.name, entry, sizes)]
    digits = len(str(entry.copies - 1))
    return [_node(f"{entry.name}-{number:0{digits}}", entry, sizes) for number in range(entry.copies)]


def _node(name: str, entry: NodeEntry, sizes: Mapping[str, float]) -> Node:
    wanted = parse(entry.gpus)
    sold = next((kind.sizes for kind in KINDS if kind.name == wanted.kind), ())
    memory = wanted.memory_gb or sizes.get(wanted.kind) or max(sold, default=0)
    if not memory:
        raise Refusal(Reason.WRONG_VALUE, name=f"gpus of {name}", said=entry.gpus, rule="name a kind, or GB")
    everyone = tuple(range(wanted.count))
    linked = (everyone,) if entry.nvlink == "all" else entry.nvlink
    return Node(
        name,
        tuple(
            Card(
                node=name,
                index=index,
                uuid=f"{name}/{index}",
                kind=wanted.kind,
                maker=wanted.maker,
                memory_gb=memory,
                numa=next((number for number, group in enumerate(entry.numa) if index in group), None),
                links=tuple(sorted({one for group in linked if index in group for one in group} - {index})),
                trouble=entry.ill.get(index, ""),
            )
            for index in everyone
        ),
    )
