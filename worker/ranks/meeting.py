"""Where the other nodes find the first one, and hear when their ranks are to start and to end."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable

from worker.errors import MachineError, UnfinishedError
from worker.jobs.checkpoints import Spot
from worker.jobs.stopping import StopFlag
from worker.ranks.channel import Channel, Readable, far, ready
from worker.ranks.nodes import Node
from worker.ranks.words import LOST, Begin, End, Here, Leave, Raised, Start, Stop, Word
from worker.tasks.task import Stopped

log = logging.getLogger(__name__)


class Meeting:
    def __init__(self, node: Node, fingerprint: str, ranks: int) -> None:
        self._node = node
        self._fingerprint = fingerprint
        self._ranks = ranks
        self._listener: socket.socket | None = None
        self._unknown: list[Channel] = []
        """have not said yet who they are"""
        self._here: dict[int, Channel] = {}
        """by node"""
        self._busy: set[int] = set()
        """nodes whose ranks may still speak"""

    def open(self) -> None:
        try:
            self._listener = _server(self._node.port)
        except OSError as error:
            raise MachineError(
                f"the other nodes cannot be met at port {self._node.port} ({error.strerror}): "
                "name another one with --meet-at on all nodes"
            ) from None
        log.info("waiting for %d more nodes at port %d", self._node.count - 1, self._node.port)

    def close(self) -> None:
        for line in (*self._unknown, *self._here.values()):
            line.send(Leave())
            line.close()
        if self._listener:
            self._listener.close()

    @property
    def lines(self) -> list[Readable]:
        """What is readable when there is something to hear."""
        listener = [self._listener] if self._listener else []
        return [*listener, *self._unknown, *self._here.values()]

    def gather(self, stop: StopFlag, tick: Callable[[], None], patience_s: float) -> None:
        """Until all of them are here, and have nothing more to say of what was before."""
        waited = 0.0
        self.hear(stop)
        while missing := sorted(set(range(1, self._node.count)) - set(self._here) | self._busy):
            if stop:
                raise Stopped
            if waited >= patience_s:
                nodes = ", ".join(map(str, missing))
                raise UnfinishedError(
                    f"node {nodes} of {self._node.count} did not come to port {self._node.port} in "
                    f"{patience_s:.0f} s: `worker run` has to be started on each of them"
                )
            began = time.monotonic()
            ready(self.lines, 1.0)
            self.hear(stop)
            waited += time.monotonic() - began
            tick()

    def start(self, begin: Begin, shard: str, spot: Spot | None) -> int:
        """→ the port at which torchrun shall meet"""
        with _server(0) as one:
            port = int(one.getsockname()[1])
        whence = (spot[0], *spot[1]) if spot else None
        start = Start(shard, begin.item["id"], begin.backend, begin.halved, port, whence)
        for node, line in self._here.items():
            self._busy.add(node)
            line.send(start)
        return port

    def end(self) -> None:
        for line in self._here.values():
            line.send(End())

    def hear(self, stop: StopFlag) -> list[tuple[int, Word]]:
        """Of ranks on other nodes, and of nodes that are gone."""
        speaking = ready(self.lines, 0)
        heard: list[tuple[int, Word]] = []
        for node, line in [*self._here.items()]:  # before the unknown: one may come in the place of another
            if line in speaking:
                heard += [(-1, word) for word in _said(line) if not self._is_ours(node, word, stop)]
                if line.ended:
                    self._here.pop(node).close()
                    self._busy.discard(node)
                    heard.append((-1, Raised(-1, f"node {node} is gone", LOST)))
        for line in [one for one in self._unknown if one in speaking]:
            self._let_in(line)
        if self._listener and self._listener in speaking:
            self._unknown.append(far(self._listener.accept()[0]))
        return heard

    def _let_in(self, line: Channel) -> None:
        words = _said(line)
        here = words[0] if words else None
        if here is None and not line.ended:
            return
        self._unknown.remove(line)
        if not isinstance(here, Here):
            line.close()
            return
        why, again = "", False
        if here.fingerprint != self._fingerprint:
            why = "node 0 works on another queue, or on another recipe"
        elif here.ranks != self._ranks:
            why = f"node {here.node} has {here.ranks} processes and node 0 has {self._ranks}: as many on each"
        elif not 0 < here.node < self._node.count:
            why = f"there is no node {here.node}, there are only {self._node.count}"
        elif here.node in self._here:  # perhaps it is dead, and nobody has noticed yet
            why, again = f"another worker is node {here.node} already", True
        if why:
            log.warning("a node is sent away: %s", why)
            line.send(Leave(why, again))
            line.close()
            return
        self._here[here.node] = line
        log.info("node %d is here", here.node)

    def _is_ours(self, node: int, word: Word, stop: StopFlag) -> bool:
        """A node that is taken away leaves the others time for a checkpoint, and no more."""
        if isinstance(word, End):
            self._busy.discard(node)
            return True
        if not isinstance(word, Stop):
            return False
        if not stop:
            log.warning("node %d: %s: stopping", node, word.reason)
            stop.set(f"node {node}: {word.reason}", word.time_left)
        return True


def _server(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _said(line: Channel) -> list[Word]:
    """Whoever looks through a network's ports says what is no word: that ends his line, and nothing else."""
    try:
        return line.arrived()
    except UnfinishedError as error:
        log.debug("%s", error)
        line.ended = True
        return []
