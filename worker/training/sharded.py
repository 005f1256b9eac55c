"""What is shared out among processes, as one: checkpoints look alike under every strategy.

So a training goes on with any number of processes, and under another strategy. It is gathered tensor by
tensor, and lies in the memory of the first process's machine until it is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

States = dict[str, Any]
"""of an optimiser, as torch writes them: by the number of the parameter"""


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Not read before they are used."""
    from safetensors.torch import load_file

    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


def read_states(file: Path) -> States:
    found: States = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    return found


class Fsdp:
    """FSDP2: every parameter is a DTensor, and its moments are."""

    def __init__(self, model: Any, optimizer: Any) -> None:
        self._model, self._optimizer = model, optimizer.optimizer

    def weights(self, keep: bool) -> dict[str, Tensor]:
        return _kept(((name, _whole(one)) for name, one in self._model.state_dict().items()), keep)

    def states(self, keep: bool) -> States:
        told = self._optimizer.state_dict()
        states = {
            number: _kept(((name, _whole(one)) for name, one in state.items()), keep)
            for number, state in told["state"].items()
        }
        return {**told, "state": states}

    def restore(self, _: Path, told: States) -> None:
        from torch.distributed.tensor import distribute_tensor

        parameters = [one for group in self._optimizer.param_groups for one in group["params"]]
        states = {}
        for number, state in told["state"].items():
            parameter = parameters[number]
            states[number] = {
                name: distribute_tensor(
                    one.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
                )
                if one.shape == parameter.shape and one.ndim
                else one
                for name, one in state.items()
            }
        self._optimizer.load_state_dict({**told, "state": states})


class Zero:
    """DeepSpeed's ZeRO. Its own checkpoints can be read by as many processes alone, and are pickles."""

    def __init__(self, engine: Any, learnt: Sequence[Sequence[Any]]) -> None:
        self._engine = engine
        self._learnt = learnt
        """the parameters, in the groups of the optimiser before it was shared out"""
        self._zero = engine.optimizer
        self._adam = engine.optimizer.optimizer

    def weights(self, keep: bool) -> dict[str, Tensor]:
        from deepspeed.utils import safe_get_full_fp32_param

        module = self._engine.module
        learnt = (
            (name, safe_get_full_fp32_param(one) if one.requires_grad else self._frozen(one))
            for name, one in module.named_parameters()
        )
        names = set(module.state_dict())
        buffers = ((name, one) for name, one in module.named_buffers() if name in names)
        return {**_kept(learnt, keep), **_kept(buffers, keep)}

    def _frozen(self, parameter: Any) -> Tensor:
        from deepspeed.zero import GatheredParameters

        with GatheredParameters([parameter]):
            whole: Tensor = parameter.detach().clone()
        return whole

    def states(self, keep: bool) -> States:
        from deepspeed.utils import safe_get_full_optimizer_state

        self._link()
        first = self._adam.state[self._flat()[0]]
        moments = [name for name, one in first.items() if torch.is_tensor(one) and one.ndim]
        rest = {name: one for name, one in first.items() if name not in moments}
        states, groups, number = {}, [], 0
        for group, learnt in zip(self._adam.param_groups, self._learnt, strict=True):
            start = number
            for parameter in learnt:
                gathered = ((name, safe_get_full_optimizer_state(parameter, name)) for name in moments)
                own = {name: _copy(one) for name, one in rest.items()}  # steps are counted in place
                states[number] = {**own, **_kept(gathered, keep)}
                number += 1
            groups.append({**group, "params": list(range(start, number))})
        return {"state": states, "param_groups": groups}

    def restore(self, folder: Path, told: States) -> None:
        for group, saved in zip(self._adam.param_groups, told["param_groups"], strict=True):
            group.update({name: one for name, one in saved.items() if name != "params"})
        first = told["state"][0]
        moments = [name for name, one in first.items() if torch.is_tensor(one) and one.ndim]
        for flat in self._flat():
            empty = {name: torch.zeros_like(flat) for name in moments}
            rest = {name: _copy(one, flat.device) for name, one in first.items() if name not in moments}
            self._adam.state[flat] = {**rest, **empty}
        self._link()
        names = {id(one): name for name, one in self._engine.module.named_parameters()}
        weights = read_weights(folder)
        for number, parameter in enumerate(one for group in self._learnt for one in group):
            for name in moments:
                _set(parameter, told["state"][number][name], name)
            if (weight := weights.get(names[id(parameter)])) is not None:  # the engine rounded it
                _set(parameter, weight.float(), None)

    def _link(self) -> None:
        """ZeRO-2 does it after the step of the first group, and misses what the others have since."""
        if hasattr(self._zero, "_hp_optimizer_states_linked"):
            self._zero._hp_optimizer_states_linked = False
            self._zero._lazy_init_hp_params_optimizer_state()

    def _flat(self) -> Sequence[Tensor]:
        """The numbers in 32 bits that lie in this process."""
        for name in ("fp32_partitioned_groups_flat", "single_partition_of_fp32_groups"):
            if hasattr(self._zero, name):
                found: Sequence[Tensor] = getattr(self._zero, name)
                return found
        raise TypeError(f"{type(self._zero).__name__} is not known")


def _set(parameter: Any, value: Tensor, moment: str | None) -> None:
    """Of the numbers in 32 bits; None: the parameter itself."""
    from deepspeed import utils

    value = value.to(parameter.device).flatten()
    if not hasattr(parameter, "ds_id"):  # ZeRO-2
        if moment:
            utils.safe_set_full_optimizer_state(parameter, value, moment)
        else:
            utils.safe_set_full_fp32_param(parameter, value)
        return
    # ZeRO-3's own call for the whole fails where the last process has less than the others
    group = parameter.ds_process_group
    share = parameter.ds_tensor.numel()
    padded = torch.nn.functional.pad(value, (0, share * distributed.get_world_size(group) - len(value)))
    own = padded.narrow(0, share * distributed.get_rank(group), share)
    if moment:
        utils.safe_set_local_optimizer_state(parameter, own, moment)
    else:
        utils.safe_set_local_fp32_param(parameter, own)


def _whole(value: Any) -> Any:
    from torch.distributed.tensor import DTensor

    return value.full_tensor() if isinstance(value, DTensor) else value


def _copy(value: Any, device: Any = None) -> Any:
    return value.to(device, copy=True) if torch.is_tensor(value) else value


def _kept(tensors: Iterator[tuple[str, Any]], keep: bool) -> dict[str, Any]:
    """All processes go through them together; one of them keeps them."""
    found = {}
    for name, one in tensors:
        if keep:
            found[name] = one.detach().cpu() if torch.is_tensor(one) else one
    return found


Sharded = Fsdp | Zero
