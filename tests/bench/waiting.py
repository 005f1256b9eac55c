"""In virtual time, with the real claims and hearts: some hold a shard each, the others wait for hours."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from tests.simulator import Faults, Simulation
from worker.items import Json
from worker.looking import INBOX_EVERY_S
from worker.queue import layout
from worker.queue.claims import Claims
from worker.queue.text import decode

ITEM_S = 10.0


@dataclass
class Waiting(Simulation):
    """No fault but those that the bench makes; a machine that died is not followed by another."""

    replaced: bool = False

    def _work(self, claims: Claims) -> None:
        """With a look at the inbox as often as Looking has one."""
        looked = -math.inf
        while True:
            if not claims.rests():
                if self.clock.now() - looked >= min(INBOX_EVERY_S, self.ttl / 4):
                    looked = self.clock.now()
                    self.store.list(layout.INBOX)
                if holding := claims.take():
                    self._hold(holding)
            self.clock.sleep(claims.poll)

    def _check_step(self) -> None:
        """No fault, nothing to check."""

    def begin(self) -> None:
        for number in range(self.workers):
            self._start(f"w{number}", delay=self.world.random.uniform(0, 5))

    def go_on(self, until: float) -> None:
        self.world.run(math.inf, stop=lambda: self.world.time >= until)

    @property
    def claims(self) -> Iterator[Json]:
        for name, data in self.store.objects.items():
            if name.startswith(layout.CLAIMS):
                yield decode(data)

    @property
    def calls_of_the_idle(self) -> int:
        busy = {claim["worker"] for claim in self.claims}
        return sum(calls for name, calls in self.world.calls_of.items() if name not in busy)


def waiting(idle: int, *, busy: int = 1, hours: float, seed: int = 1) -> Waiting:
    """Begun, with enough in hand for so many hours."""
    per_shard = round((hours + 2) * 3600 / ITEM_S)
    sim = Waiting(
        seed,
        Faults(until=0),
        items=busy * per_shard,
        shard_size=per_shard,
        workers=busy + idle,
        seconds_per_item=ITEM_S,
    )
    sim.begin()
    return sim


def takeovers(
    idle: int, *, busy: int = 1, deaths: int = 1, lookout: bool = False, hours: float, seed: int = 1
) -> list[float]:
    """Some of the busy die at once, perhaps with the one that looks out: for each, the seconds until somebody
    else holds its shard."""
    sim = waiting(idle, busy=busy, hours=hours, seed=seed)
    at = hours * 3600 + sim.world.random.uniform(0, sim.ttl)
    sim.go_on(at)
    held = sum(1 for _ in sim.claims)
    for claim in list(sim.claims)[:deaths]:
        sim.world.kill(sim.machines[claim["worker"]])
    if lookout:
        sim.world.kill(sim.machines[decode(sim.store.objects[layout.LOOKOUT])["worker"]])
    taken: list[float] = []
    while len(taken) < deaths and sim.world.time < at + 3600:
        sim.go_on(sim.world.time + 1)
        now = sum(1 for _ in sim.claims) - held
        taken += [sim.world.time - at] * (now - len(taken))
    sim.world.close()
    return taken
