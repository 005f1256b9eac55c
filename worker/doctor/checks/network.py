"""What trainings on several cards, or on several machines, talk over; and which variable to set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from worker.doctor.facts import Facts, Interface, Port
from worker.doctor.finding import Finding, ok, warning

CODES = {
    "CNS": "the chipset does not",
    "GNS": "the cards do not",
    "TNS": "the way between them does not",
    "NS": "not supported",
    "DR": "a driver's setting forbids it",
    "U": "unknown",
}
FAR = ("SYS", "NODE", "PHB")


def nccl(facts: Facts) -> Iterator[Finding]:
    torch = facts.libraries.torch
    if len(facts.gpus.cards) < 2 or torch is None or not torch.available:
        return
    if torch.nccl:
        yield ok(torch.nccl)
    else:
        yield warning("this torch has none", "TORCH_DISTRIBUTED_BACKEND=gloo, which is slower")


def peers(facts: Facts) -> Iterator[Finding]:
    gpus, disabled = facts.gpus, facts.network.environment.get("NCCL_P2P_DISABLE") == "1"
    if len(gpus.cards) < 2:
        return
    ours = [*combinations(sorted(one.index for one in gpus.cards), 2)]
    pairs = {pair: gpus.peers[pair] for pair in ours if pair in gpus.peers}
    links = Counter(gpus.links[pair] for pair in ours if pair in gpus.links)
    ways = ", ".join(f"{count} × {link}" for link, count in links.most_common())
    if not pairs:
        yield ok(f"nvidia-smi does not say ({ways or 'nor how cards are linked'})")
        return
    without = Counter(said for said in pairs.values() if said != "OK")
    if not without:
        if disabled:
            yield warning(
                "all cards read each other's memory, and NCCL_P2P_DISABLE=1 forbids it",
                "unset NCCL_P2P_DISABLE",
            )
        else:
            yield ok(f"all cards read each other's memory ({ways})")
        return
    why = "; ".join(f"{code}: {CODES.get(code, code)}" for code in without)
    found = (
        f"{without.total()} of {len(pairs)} pairs of cards cannot read each other's memory ({why}; {ways})"
    )
    if disabled:
        yield ok(f"{found}; NCCL_P2P_DISABLE=1 is set")
    else:
        yield warning(found, "export NCCL_P2P_DISABLE=1")


def infiniband(facts: Facts) -> Iterator[Finding]:
    ports, disabled = facts.network.ports, facts.network.environment.get("NCCL_IB_DISABLE") == "1"
    if not facts.gpus.cards:
        return
    active = [port for port in ports if port.active]
    if active and disabled:
        yield warning(
            f"{_named(active)} is active, and NCCL_IB_DISABLE=1 forbids it", "unset NCCL_IB_DISABLE"
        )
    elif active:
        yield ok(f"{_named(active)} ({', '.join(sorted({port.layer for port in active}))})")
    elif ports and not disabled:
        yield warning(
            f"{_named(ports)} is there and not active: NCCL would wait for it", "export NCCL_IB_DISABLE=1"
        )
    else:
        alone = (
            "" if len(facts.gpus.cards) < 2 or disabled else "on several machines: export NCCL_IB_DISABLE=1"
        )
        yield ok("none: several machines would talk over sockets", alone)


def _named(ports: Sequence[Port]) -> str:
    return ", ".join(port.name for port in ports)


def interfaces(facts: Facts) -> Iterator[Finding]:
    if len(facts.gpus.cards) < 2:
        return
    addressed = [one for one in facts.network.interfaces if one.up and one.address]
    usable = [one for one in addressed if not one.name.startswith("docker")]  # NCCL leaves them out itself
    real = [one for one in usable if one.physical]
    named = facts.network.environment.get("NCCL_SOCKET_IFNAME")
    if named:
        there = any(one.name.startswith(named.lstrip("=^").split(",")[0]) for one in usable)
        if there or named.startswith("^"):
            yield ok(f"NCCL_SOCKET_IFNAME={named}")
        else:
            yield warning(
                f"NCCL_SOCKET_IFNAME={named} names none of {_list(usable)}",
                f"NCCL_SOCKET_IFNAME={_best(real)}",
            )
    elif len(real) == 1 and len(usable) == 1:
        yield ok(_list(usable))
    elif usable:
        yield warning(
            f"NCCL may take the wrong one of {_list(usable)}",
            f"export NCCL_SOCKET_IFNAME={_best(real or usable)}",
        )
    else:
        yield warning(
            "none has an address: cards of one machine find each other by it too",
            "export NCCL_SOCKET_IFNAME=lo",
        )


def _best(some: list[Interface]) -> str:
    return max(some, key=lambda one: one.speed or 0).name if some else "eth0"


def _list(some: list[Interface]) -> str:
    return ", ".join(f"{one.name}{f' ({one.speed / 1000:g} Gbit/s)' if one.speed else ''}" for one in some)
