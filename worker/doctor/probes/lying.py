"""Whether a model lies here whole, and how much of a card it takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from worker.doctor.facts import Model
from worker.engines import checkpoint, hub, quantisation, weights
from worker.errors import UsageError, WorkerError

_OF_BERT = "config.json vocab.txt tokenizer.json tokenizer_config.json"
_INTO = "--local-dir models/videochat2-hd"
VIDEOCHAT2 = (
    (
        "hf download OpenGVLab/VideoChat2_HD_stage4_Mistral_7B_hf "
        f"--exclude '*.bin' --exclude '*.pth' --exclude '*.pt' {_INTO}"
    ),
    (
        "hf download mistralai/Mistral-7B-Instruct-v0.2 "
        f"--include 'config.json' --include '*token*' {_INTO}/mistral"
    ),
    f"hf download google-bert/bert-base-uncased {_OF_BERT} {_INTO}/bert-base-uncased",
)
"""its code asks for more than its own repository has"""
_BESIDE = ("mistral", "bert-base-uncased")


def look(name: str) -> Model:
    place = Path(name)
    if place.is_file():
        return Model(name, True)
    if place.is_dir():
        return _folder(name, place, "copy or fetch it again")
    if not hub.is_name(name):
        return Model(name, False, remedy="name a file, a folder, or a model of the hub as owner/name")
    commit = hub.commit(name, "main")
    if commit is None or (folder := hub.snapshot(name, commit)) is None:
        return absent(name)
    return _folder(name, folder, fetching(name))


def fetching(name: str) -> str:
    if _is_videochat2(name):
        return f"{' && '.join(VIDEOCHAT2)}; then --model models/videochat2-hd"
    return f"{hub.fetch(name)} (a mirror: HF_ENDPOINT=https://…; another disk: HF_HOME=/data/huggingface)"


def _is_videochat2(told: str) -> bool:
    return "videochat2" in told.lower()


def _folder(name: str, folder: Path, remedy: str) -> Model:
    try:
        checkpoint.check(folder)
        config = checkpoint.config(folder)
        missing = [one for one in _BESIDE if not (folder / one).is_dir()]
        if missing and _is_videochat2(Path(name).name + json.dumps(config)):
            return Model(name, False, remedy=fetching("videochat2"), wrong=f"{folder} has no {missing[0]}")
        tensors = [one for file in checkpoint.files(folder) for one in weights.header(file).tensors]
        kept, _ = quantisation.choose("none", config)
        smaller, _ = quantisation.choose("nf4", config)
        as_it_is = quantisation.size(tensors, kept, "fp16") / 1e9
        in_four_bits = quantisation.size(tensors, smaller, "fp16") / 1e9
    except (WorkerError, OSError) as error:
        return Model(name, False, remedy=remedy, wrong=str(error))
    return Model(
        name, True, as_it_is, in_four_bits, str(config.get("model_type", "")), code="auto_map" in config
    )


def absent(name: str) -> Model:
    """As plans know it; else two bytes for each of the billions that its name tells: owner/some-7B."""
    from worker.planning import known, memory

    remedy = fetching(name)
    try:
        shape = known.find(name)
    except UsageError:
        found = re.search(r"(?<![\d.])(\d+(?:\.\d+)?)B(?![a-z])", name)
        return Model(name, False, 2 * float(found[1]) if found else None, remedy=remedy)
    kept: memory.Form = "none" if shape.stored == "none" else "awq"
    smaller: memory.Form = "nf4" if shape.stored == "none" else kept
    as_it_is, in_four_bits = (sum(memory.weights(shape, form).values()) / 1e9 for form in (kept, smaller))
    return Model(name, False, as_it_is, in_four_bits, shape.family, remedy)
