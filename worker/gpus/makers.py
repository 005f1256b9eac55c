"""What each maker's cards are called by torch, and by the variable that leaves a process some of them."""

from __future__ import annotations

from worker.gpus.kinds import AMD, ASCEND, INTEL, NVIDIA
from worker.hardware import cards

MAKERS = {NVIDIA: cards.NVIDIA, AMD: cards.AMD, INTEL: cards.INTEL, ASCEND: cards.ASCEND}
