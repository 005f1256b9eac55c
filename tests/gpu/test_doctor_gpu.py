"""The doctor on a machine that has a card: what nvidia-smi and torch say agrees."""

from __future__ import annotations

import pytest

from worker.doctor.checks.cards import has_code
from worker.doctor.examination import gather, judge
from worker.doctor.facts import Wanted
from worker.doctor.probes import smi
from worker.hardware.gpus import AMPERE


def test_the_card_is_examined() -> None:
    if not smi.look().cards:
        pytest.skip("needs an NVIDIA GPU and nvidia-smi")
    facts = gather(Wanted())
    card, torch = facts.card, facts.libraries.torch
    assert card is not None
    assert card.capability is not None
    assert torch is not None, "install torch for this card"
    assert torch.error is None
    assert torch.available
    assert has_code(torch.archs, card.capability)
    assert list(torch.bf16) == [
        one.capability is not None and one.capability >= AMPERE for one in facts.gpus.cards
    ]
    told = {one.check: one for one in judge(facts).findings}
    assert told["driver"].level == told["wheel"].level == "ok"
    assert {
        "bf16",
        "mig",
        "ecc",
        "other-processes",
        "flash-attention",
        "bitsandbytes",
        "conv3d",
    } <= told.keys()
