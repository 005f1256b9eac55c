"""AWQ by AutoAWQ, for those who ask for it: its search, around the layers of today's Qwen-VL.

It knows no Qwen3-VL, and Qwen2.5-VL only as it once was; it takes texts of one length; and it is maintained
no more. Here it gets what comes to the layers when the samples are shown, pictures and all."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.errors import UnfitError
from worker.quantising import copies
from worker.quantising.watching import watched

if TYPE_CHECKING:
    from torch import Tensor

_WHOLE = ["model.visual", "lm_head"]
"""as the library looks for them: for "visual" alone it would round the vision tower, without a word"""
_ROWS = 64
"""that it clips at once: what is no multiple of them, it refuses"""


class _Seen(Exception):
    """By the first layer: the rest of the model need not run."""


def require() -> None:
    """Before a large model is loaded for nothing."""
    if find_spec("awq") is None:
        raise UnfitError(
            "tool=autoawq needs AutoAWQ, without what it asks for: "
            "pip install --no-deps --no-build-isolation -r env/locks/autoawq.txt"
        )


def quantise(
    model: Any,
    tokenizer: Any,
    into: Path,
    samples: Iterable[Mapping[str, Tensor]],
    group: int,
    progress: Callable[[int, int], None],
) -> None:
    """The model is changed, and written as AutoAWQ writes (gemm)."""
    import torch

    layers = model.model.language_model.layers
    with torch.no_grad(), watched(layers, progress):
        search(model, tokenizer, [*samples], group).quantize()
        model.config.quantization_config = {
            "quant_method": "awq",
            "version": "gemm",
            "bits": 4,
            "group_size": group,
            "zero_point": True,
            "modules_to_not_convert": _WHOLE,
        }
        model.save_pretrained(into)


def search(model: Any, tokenizer: Any, samples: list[Mapping[str, Tensor]], group: int) -> Any:
    import torch

    with warnings.catch_warnings(record=True):  # it says farewell, and wants all warnings to be seen
        from awq.quantize.quantizer import AwqQuantizer
        from awq.utils.utils import get_best_device

    text = model.model.language_model

    class Search(AwqQuantizer):  # type: ignore[misc]
        """All samples are one long row, of which layers see one sample at a time."""

        inps: Tensor

        def init_quant(self, **_: Any) -> tuple[Any, dict[str, Any], Tensor]:
            self.shown = [_shown(model, one, get_best_device()) for one in samples]
            self.layer = 0
            _place(model, "cpu")
            # it works out positions of its own where it is given none
            rows = torch.cat([one.rows for one in self.shown], 1)
            return text.layers, {"position_embeddings": ()}, rows

        def _module_forward(self, rows: Tensor, module: Any, _: Any) -> Tensor:
            lengths = [one.rows.shape[1] for one in self.shown]
            told = []
            for part, one in zip(torch.split(rows, lengths, 1), self.shown, strict=True):
                found = module(part, **_on(self._sanitize_kwargs(one.told, module), part.device))
                told.append(found[0] if isinstance(found, tuple) else found)
            return torch.cat(told, 1)

        def _get_input_feat(self, layer: Any, linears: Mapping[str, Any]) -> dict[str, Tensor]:
            came: dict[str, list[Tensor]] = defaultdict(list)

            def came_to(name: str, _: Any, inputs: tuple[Tensor, ...]) -> None:
                came[name].append(inputs[0].to("cpu", copy=True))

            hooks = [one.register_forward_pre_hook(partial(came_to, name)) for name, one in linears.items()]
            self.inps = self._module_forward(self.inps, layer, {})
            for hook in hooks:
                hook.remove()
            self._look_again()
            return {name: torch.cat(found, 1) for name, found in came.items()}

        def _look_again(self) -> None:
            """Behind its first layers a Qwen3-VL is shown the pictures once more."""
            begin = 0
            for one in self.shown:
                rows = self.inps[:, begin : begin + one.rows.shape[1]]
                if self.layer < len(one.deep):
                    deep = one.deep[self.layer].to(rows.device)
                    rows[:] = text._deepstack_process(rows, one.pictures, deep)
                begin += one.rows.shape[1]
            self.layer += 1

        def _compute_best_scale(self, x: Any, w: Any, m: Any, module: Any, *rest: Any) -> Any:
            with copies.kept(module):
                return super()._compute_best_scale(x, w, m, module, *rest)

        def _search_best_clip(self, layer: Any, linears: Mapping[str, Any], came: Any) -> Any:
            fit = {name: one for name, one in linears.items() if one.out_features % _ROWS == 0}
            return super()._search_best_clip(layer, fit, came)

    return Search(
        _Layers(model.config.model_type), model, tokenizer, 4, group, True, "gemm", None, None, None, True
    )


class _Layers:
    """What AutoAWQ asks of a kind of model."""

    def __init__(self, model_type: str) -> None:
        self.model_type = model_type

    @staticmethod
    def move_embed(*_: Any) -> None:
        """It is needed no more."""

    @staticmethod
    def get_layers_for_scaling(layer: Any, came: Mapping[str, Tensor], told: Any) -> list[dict[str, Any]]:
        attention, mlp = layer.self_attn, layer.mlp
        first = [attention.q_proj, attention.k_proj, attention.v_proj]
        found = [
            {
                "prev_op": layer.input_layernorm,
                "layers": first,
                "inp": came["self_attn.q_proj"],
                "module2inspect": attention,
                "kwargs": told,
            },
            {
                "prev_op": layer.post_attention_layernorm,
                "layers": [mlp.gate_proj, mlp.up_proj],
                "inp": came["mlp.gate_proj"],
                "module2inspect": mlp,
            },
            {"prev_op": mlp.up_proj, "layers": [mlp.down_proj], "inp": came["mlp.down_proj"]},
        ]
        if attention.v_proj.weight.shape == attention.o_proj.weight.shape:
            beside = {"layers": [attention.o_proj], "inp": came["self_attn.o_proj"]}
            found.insert(1, {"prev_op": attention.v_proj, **beside})
        return found


def _place(model: Any, device: Any) -> None:
    """What stands before the layers."""
    text = model.model.language_model
    for one in (model.model.visual, text.embed_tokens, text.rotary_emb):
        one.to(device)


class _Sample:
    """What comes to the first layer, in RAM, and what all layers are told beside it."""

    def __init__(self) -> None:
        self.rows: Any = None
        self.told: Mapping[str, Any] = {}
        self.pictures: Any = None
        self.deep: list[Any] = []


def _shown(model: Any, sample: Mapping[str, Tensor], device: Any) -> _Sample:
    found, text = _Sample(), model.model.language_model

    def begun(_: Any, __: Any, told: Mapping[str, Any]) -> None:
        found.pictures = told.get("visual_pos_masks")
        found.deep = [one.cpu() for one in told.get("deepstack_visual_embeds") or ()]

    def seen(_: Any, inputs: tuple[Tensor, ...], told: Mapping[str, Any]) -> None:
        found.rows = inputs[0].cpu()
        found.told = _on({name: one for name, one in told.items() if not name.startswith("past")}, "cpu")
        raise _Seen

    _place(model, device)
    hooks = [
        text.register_forward_pre_hook(begun, with_kwargs=True),
        text.layers[0].register_forward_pre_hook(seen, with_kwargs=True),
    ]
    try:
        model(**{name: one.to(device) for name, one in sample.items()}, use_cache=False)
    except _Seen:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _on(told: Mapping[str, Any], device: Any) -> dict[str, Any]:
    return {
        name: tuple(each.to(device) for each in one)
        if isinstance(one, tuple)
        else one.to(device)
        if hasattr(one, "to")
        else one
        for name, one in told.items()
    }
