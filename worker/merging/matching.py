"""Which tensor of the base each change of an adapter is meant for: all find one, or none is merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from worker.engines.weights import Tensor
from worker.errors import ItemError
from worker.merging.adapter import WRONG, Change

_WRAPS = {"model", "language_model"}
"""what holds the layers: a checkpoint and the library that trains it may name it in several ways"""
_TIED = {"lm_head.weight", "embed_tokens.weight"}
_KINDS = {"F32", "F16", "BF16"}
_NAMED = 3


def match(changes: Mapping[str, Change], base: Iterable[Tensor], *, tied: bool) -> dict[str, Change]:
    """By the tensor's name in the base. `tied`: its embedding is its last layer too."""
    there: dict[str, list[Tensor]] = {}
    for tensor in base:
        there.setdefault(within(tensor.name), []).append(tensor)
    found: dict[str, Change] = {}
    left, unfit = [], []
    for name, change in changes.items():
        bare = within(name)
        one = _the_one(name, there.get(bare, []))
        if tied and bare in _TIED:
            raise _refused(
                f"{name} is trained, and the base's embedding and last layer are one tensor "
                "(tie_word_embeddings): both would be changed. Train without it, or untie the base first"
            )
        if one is None or one.name in found:
            left.append(name)
        elif change.shape != one.shape or one.kind not in _KINDS:
            unfit.append(f"{name} for {one.kind} of {'x'.join(map(str, one.shape))}")
        else:
            found[one.name] = change
    for what, names in (("have no place in", left), ("do not fit", unfit)):
        if names:
            raise _refused(f"{_told(names)} {what} the base: name the one that it was trained beside (base=)")
    return found


def _the_one(name: str, tensors: Sequence[Tensor]) -> Tensor | None:
    return next((one for one in tensors if one.name == name), tensors[0] if len(tensors) == 1 else None)


def within(name: str) -> str:
    """Without what holds it: one name, whoever wrote the checkpoint."""
    parts = name.split(".")
    while len(parts) > 1 and parts[0] in _WRAPS:
        parts = parts[1:]
    return ".".join(parts)


def _told(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} of its tensors ({', '.join(sorted(names)[:_NAMED])}{more})"


def _refused(why: str) -> ItemError:
    return ItemError(WRONG, f"this adapter is not merged: {why}")
