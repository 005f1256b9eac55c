"""Which machine of Azure has which cards."""

from __future__ import annotations

from worker.errors import UsageError
from worker.launch.order import Profile

SIZES = {
    "a100": {
        1: "Standard_NC24ads_A100_v4",
        2: "Standard_NC48ads_A100_v4",
        4: "Standard_NC96ads_A100_v4",
        8: "Standard_ND96amsr_A100_v4",
    },
    "h100": {1: "Standard_NC40ads_H100_v5", 2: "Standard_NC80adis_H100_v5", 8: "Standard_ND96isr_H100_v5"},
    "h200": {8: "Standard_ND96isr_H200_v5"},
    "t4": {1: "Standard_NC8as_T4_v3", 4: "Standard_NC64as_T4_v3"},
    "a10": {1: "Standard_NV36ads_A10_v5", 2: "Standard_NV72ads_A10_v5"},
    "cpu": {0: "Standard_D8s_v3"},
}
"""cards → size; by the series' pages of Azure's documentation, November 2026"""
RETIRED = {"v100": "Azure retired its machines with V100 (NCv3, NDv2)"}


def size_of(profile: Profile, gpus: int, said: str = "") -> str:
    if said:
        return said
    known = SIZES.get(profile.hw)
    if known is None:
        why = RETIRED.get(profile.hw, f"Azure has no machines with {profile.hw}")
        raise UsageError(f"--hw {profile.hw}: {why}; there are {', '.join(SIZES)}, or --size names a machine")
    if gpus not in known:
        counts = ", ".join(map(str, known))
        raise UsageError(
            f"--gpus {gpus}: Azure's machines with {profile.hw} have {counts}; or --size names another one"
        )
    return known[gpus]
