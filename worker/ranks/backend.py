"""How ranks speak with each other: NCCL between cards, gloo elsewhere and where NCCL fails."""

from __future__ import annotations

NCCL, GLOO = "nccl", "gloo"
FIRST_WORD_S = 180.0
"""for the first sum over all ranks, once they are there; NCCL that cannot reach a peer waits for ever"""
REMEDIES = (
    "NCCL_SOCKET_IFNAME names the network card, NCCL_IB_DISABLE=1 leaves InfiniBand out, NCCL_P2P_DISABLE=1 "
    "the way from card to card, NCCL_DEBUG=INFO says more"
)


def choose(kind: str) -> str:
    """By the kind of device that all ranks have."""
    return NCCL if kind == "cuda" else GLOO


def of_torch(backend: str) -> str:
    """What torch is told: what lies in a CPU's memory never goes through NCCL."""
    return f"cpu:{GLOO},cuda:{NCCL}" if backend == NCCL else backend


def instead(backend: str, why: str) -> str:
    """The word of warning."""
    return f"{backend} does not work here ({why}): {GLOO} is taken, which is slower; {REMEDIES}"
