"""`make chaos SEED=n`: real workers on real stores, killed and cheated, and then the answers are counted.

A seed replays what is done, in which order, to whom by age, at which progress of the work, and in which
order the proxy's faults are drawn. It does not replay the timing of the machine: which item is in hand when
a blow falls, and which request meets which fault, differs from run to run.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.chaos.battle import Battle
from tests.chaos.places import PLACES
from tests.chaos.proxy import Lots
from tests.chaos.schedule import schedule
from tests.chaos.work import WORKS, Work
from tests.workers import answers, counts, end_all, run

TTL_S = 2.0
LIMIT_S = 60.0
"""without a commit, a blow, or the end of a process"""
WORKERS = 4
OUTPUTS = ("final_results.json", "summary.json")


@dataclass(frozen=True, slots=True)
class Verdict:
    store: str
    task: str
    seed: int
    kills: int
    zombies: int
    faults: int
    items: int
    lost: int
    duplicated: int
    seconds: float
    troubles: Sequence[str]
    note: str = ""

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.duplicated or self.troubles)

    def __str__(self) -> str:
        return (
            f"{self.store} {self.task} seed {self.seed}: kills {self.kills}, zombies {self.zombies}, "
            f"faults {self.faults}, items {self.items}, lost {self.lost}, duplicated {self.duplicated}  "
            f"({self.seconds:.0f} s)" + f"  {self.note}".rstrip()
        )


def undisturbed(folder: Path, work: Work) -> dict[str, bytes]:
    """What one worker gives that nobody disturbs."""
    code, said = run(
        "run", folder / "queue", "--task", work.task, *work.inputs, "--out", folder / "out", timeout=300
    )
    assert code == 1, said
    return outputs(folder / "out")


def outputs(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


def one_round(store: str, seed: int, kills: int, work: Work, right: dict[str, bytes]) -> Verdict:
    began = time.monotonic()
    lots = Lots(seed, worst=1.5 * TTL_S)
    with (
        tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as temp,
        PLACES[store](Path(temp), lots) as place,
    ):
        try:
            code, said = run("enqueue", place.queue, "--task", work.task, *work.enqueued)
            assert code == 0, said
            work = replace(work, shards=counts(place.queue)["items"] + len(work.dropped))
            battle = Battle(place, schedule(seed, kills, work.shards, TTL_S), work, TTL_S, WORKERS)
            battle.run(LIMIT_S)
            place.calm()
            lost, duplicated, troubles = judge(place.queue, Path(temp) / "out", battle, work.inputs, right)
        finally:
            end_all()
    return Verdict(
        store,
        work.task,
        seed,
        battle.kills,
        battle.zombies,
        place.faults,
        len(work.inputs),
        lost,
        duplicated,
        time.monotonic() - began,
        troubles,
        place.note,
    )


def judge(
    queue: str, out: Path, battle: Battle, inputs: Sequence[str], right: dict[str, bytes]
) -> tuple[int, int, Sequence[str]]:
    """→ items lost, items or commits that are there twice, what else is wrong"""
    troubles = list(battle.troubles)
    twice = battle.rewritten()
    code, said = run("collect", queue, "--out", out)
    if code != 1:
        return len(inputs), twice, [*troubles, f"collect ends with {code}: {said}"]
    try:
        answers(queue)
    except AssertionError as error:
        twice += 1
        troubles.append(str(error))
    found = Counter(one["input"] for one in json.loads((out / OUTPUTS[0]).read_bytes())["results"])
    lost = len(set(inputs) - set(found))
    twice += found.total() - len(found)
    troubles += [
        f"{name} differs from that of one worker" for name in OUTPUTS if outputs(out)[name] != right[name]
    ]
    return lost, twice, troubles


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 100_000))
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--work", default=",".join(WORKS), help="of items, jobs")
    parser.add_argument("--store", default=",".join(PLACES), help="of directory, azurite, s3")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # its workers must not outlive it
    is_good = True
    for name in chosen.work.split(","):
        work = WORKS[name](chosen.seed, chosen.kills)
        with tempfile.TemporaryDirectory(prefix="chaos-") as temp:
            right = undisturbed(Path(temp), work)
        end_all()
        for store in chosen.store.split(","):
            verdict = one_round(store, chosen.seed, chosen.kills, work, right)
            print(verdict, flush=True)  # noqa: T201
            print(*verdict.troubles, sep="\n", end="", file=sys.stderr)  # noqa: T201
            is_good = is_good and verdict.is_good
    sys.exit(0 if is_good else 1)
