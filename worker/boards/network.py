"""A small network that tells differences apart and mends their boxes: made and asked with numpy alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from worker.boards.copper import Floats

_SPREAD = 5.0
"""standard deviations: what lies further out is taken for that"""
_BATCH, _RATE, _DECAY, _DROPPED, _HIDDEN = 128, 4e-3, 1e-3, 0.2, 96
_WARM_UP = 0.2
_BEND = 0.3
"""an error of a box's side counts by its square up to here, and then by itself"""


@dataclass(frozen=True, slots=True)
class Network:
    """Layers of weights; between them, what is below nothing becomes nothing."""

    mean: Floats
    spread: Floats
    weights: Sequence[Floats]
    biases: Sequence[Floats]
    kinds: int

    def ask(self, traits: Floats) -> tuple[Floats, Floats]:
        """How likely each kind is, and the sides of the box."""
        values = _scaled(traits, self.mean, self.spread)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = (np.maximum(values, 0) if layer else values) @ weight + bias
        return _shares(values[:, : self.kinds]), values[:, self.kinds :]


def fit(
    traits: Floats, kinds: Floats, sides: Floats, count: int, *, epochs: int = 20, seed: int = 0
) -> Network:
    """`kinds`: 0 is none, and has no box. The same numbers always, from the same seed."""
    chance = np.random.default_rng(seed)
    mean, spread = traits.mean(0), traits.std(0) + 1e-6
    given = _scaled(traits, mean, spread)
    sizes = [traits.shape[1], _HIDDEN, _HIDDEN, count + sides.shape[1]]
    weights = [chance.normal(0, np.sqrt(2 / a), (a, b)).astype(np.float32) for a, b in pairwise(sizes)]
    weights[-1] *= 0.1
    biases = [np.zeros(b, np.float32) for b in sizes[1:]]
    knobs = weights + biases
    first, second = ([np.zeros_like(knob) for knob in knobs] for _ in range(2))
    batches = len(given) // _BATCH
    for step in range(1, epochs * batches + 1):
        at = (step - 1) % batches
        if not at:
            order = chance.permutation(len(given))
        chosen = order[at * _BATCH : (at + 1) * _BATCH]
        slopes = _slopes(weights, biases, given[chosen], kinds[chosen], sides[chosen], count, chance)
        rate = _RATE * _warmth(step / (epochs * batches))
        for n, (knob, slope) in enumerate(zip(knobs, slopes, strict=True)):
            first[n] += 0.1 * (slope - first[n])
            second[n] += 0.01 * (slope**2 - second[n])
            pace = first[n] / (1 - 0.9**step) / (np.sqrt(second[n] / (1 - 0.99**step)) + 1e-7)
            knob -= rate * (pace + _DECAY * knob * (knob.ndim > 1))
    return Network(mean, spread, weights, biases, count)


def save(file: Path, networks: Sequence[Network]) -> None:
    """In half precision, which changes no figure, and is half the size."""
    kept: dict[str, Floats] = {"kinds": np.array([one.kinds for one in networks])}
    for n, one in enumerate(networks):
        kept |= {f"{n}.mean": one.mean.astype(np.float32), f"{n}.spread": one.spread.astype(np.float32)}
        for layer, (weight, bias) in enumerate(zip(one.weights, one.biases, strict=True)):
            kept |= {f"{n}.{layer}.weight": weight.astype(np.float16), f"{n}.{layer}.bias": bias}
    np.savez_compressed(file, allow_pickle=False, **kept)


def load(file: Path) -> list[Network]:
    """In double precision: the answers are the same on every machine, to the digits that are told."""
    with np.load(file, allow_pickle=False) as kept:
        layers = len({name.split(".")[1] for name in kept if name.endswith("weight")})
        return [
            Network(
                kept[f"{n}.mean"],
                kept[f"{n}.spread"],
                [kept[f"{n}.{layer}.weight"].astype(np.float64) for layer in range(layers)],
                [kept[f"{n}.{layer}.bias"] for layer in range(layers)],
                int(kinds),
            )
            for n, kinds in enumerate(kept["kinds"])
        ]


def _scaled(traits: Floats, mean: Floats, spread: Floats) -> Floats:
    return np.clip((traits - mean) / spread, -_SPREAD, _SPREAD).astype(np.float32)


def _shares(values: Floats) -> Floats:
    grown: Floats = np.exp(values - values.max(1, keepdims=True))
    shares: Floats = grown / grown.sum(1, keepdims=True)
    return shares


def _warmth(done: float) -> float:
    return min(done / _WARM_UP, (1 + math.cos(math.pi * max(0.0, (done - _WARM_UP) / (1 - _WARM_UP)))) / 2)


def _slopes(
    weights: Sequence[Floats],
    biases: Sequence[Floats],
    given: Floats,
    kinds: Floats,
    sides: Floats,
    count: int,
    chance: np.random.Generator,
) -> list[Floats]:
    """Of the loss, by each weight and bias: forwards with some values dropped, and back."""
    values, gates = [given], []
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        out = values[-1] @ weight + bias
        if layer < len(weights) - 1:
            gates.append((out > 0) * (chance.random(out.shape) >= _DROPPED) / np.float32(1 - _DROPPED))
            out = out * gates[-1]
        values.append(out)
    back = np.zeros_like(values[-1])
    back[:, :count] = _shares(values[-1][:, :count])
    back[np.arange(len(kinds)), kinds] -= 1
    back[:, :count] /= len(kinds)
    boxed = kinds > 0
    off = values[-1][boxed, count:] - sides[boxed]
    back[boxed, count:] = np.clip(off / _BEND, -1, 1) / max(1, off.size)
    by_weight, by_bias = [], []
    for layer in range(len(weights) - 1, -1, -1):
        by_weight.append(values[layer].T @ back)
        by_bias.append(back.sum(0))
        if layer:
            back = (back @ weights[layer].T) * gates[layer - 1]
    return by_weight[::-1] + by_bias[::-1]
