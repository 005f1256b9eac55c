"""What models written for transformers 4.40 miss in newer ones: lent while such a model loads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def lent() -> Iterator[None]:
    """Inside of this the old names are there, where they are missing; behind it transformers is as it was."""
    from transformers import AutoModelForCausalLM, PreTrainedModel, modeling_utils, pytorch_utils

    with ExitStack() as back:
        for name in ("apply_chunking_to_forward", "prune_linear_layer", "find_pruneable_heads_and_indices"):
            if not hasattr(modeling_utils, name):
                _put(back, modeling_utils, name, getattr(pytorch_utils, name, _never_pruned))
        # a model that calls init_weights() and never post_init() says of nothing that it is tied or split
        for name in ("all_tied_weights_keys", "_tp_plan", "_ep_plan"):
            _put(back, PreTrainedModel, name, {})
        for name, method in _METHODS.items():
            if not hasattr(PreTrainedModel, name):
                _put(back, PreTrainedModel, name, method)
        _put(
            back,
            PreTrainedModel,
            "resize_token_embeddings",
            _plainly(PreTrainedModel.resize_token_embeddings),
        )
        _put(back, AutoModelForCausalLM, "from_pretrained", _inner(AutoModelForCausalLM))
        yield


def keep(model: Any) -> None:
    """Give the loaded model's own classes the methods that they call while they run."""
    from transformers import PreTrainedModel

    for kind in {type(module) for module in model.modules()}:
        if issubclass(kind, PreTrainedModel) and not kind.__module__.startswith("transformers."):
            for name, method in _METHODS.items():
                if not hasattr(kind, name):
                    setattr(kind, name, method)


def _put(back: ExitStack, owner: Any, name: str, value: object) -> None:
    missing = object()
    before = vars(owner).get(name, missing)
    if before is missing:
        back.callback(delattr, owner, name)
    else:
        back.callback(setattr, owner, name, before)
    setattr(owner, name, value)


def _inner(auto: Any) -> Any:
    """A language model that another model's constructor loads gets its shape only: its weights are in the
    outer checkpoint, and transformers 5 refuses to load one model while it lays out another."""
    usual = auto.from_pretrained

    def from_pretrained(name: str, *args: Any, torch_dtype: Any = None, **settings: Any) -> Any:
        import torch
        from transformers import AutoConfig

        if torch.get_default_device().type != "meta":
            return usual(name, *args, **settings, **({"dtype": torch_dtype} if torch_dtype else {}))
        attention = {key: settings[key] for key in ("attn_implementation",) if key in settings}
        return auto.from_config(AutoConfig.from_pretrained(name), **attention)

    return staticmethod(from_pretrained)


def _plainly(resize: Any) -> Any:
    """New rows are no mean of the others, which cannot be told before the weights are there."""

    def resize_token_embeddings(self: Any, *args: Any, **settings: Any) -> Any:
        return resize(self, *args, **{**settings, "mean_resizing": False})

    return resize_token_embeddings


def _never_pruned(*_: object) -> None:
    raise NotImplementedError("heads are pruned in no model that is only asked")


def _get_head_mask(_: Any, head_mask: None, layers: int, *__: object) -> list[None]:
    if head_mask is not None:
        _never_pruned()
    return [None] * layers


def _invert_attention_mask(self: Any, mask: Any) -> Any:
    """1 where there is something, 0 where not → what is added to the scores."""
    import torch

    wide = mask[:, None, None, :] if mask.dim() == 2 else mask[:, None, :, :]
    return (1 - wide.to(self.dtype)) * torch.finfo(self.dtype).min


_METHODS = {"get_head_mask": _get_head_mask, "invert_attention_mask": _invert_attention_mask}
