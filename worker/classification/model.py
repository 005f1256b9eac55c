"""A vision language model that says one of n classes: the whole body of one that writes, and a new head."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worker import models
from worker.engines import checkpoint, loading
from worker.engines.attention import Wanted as Kernels
from worker.engines.choice import Choice
from worker.engines.device import look
from worker.engines.precision import Precision
from worker.engines.precision import Wanted as Numbers
from worker.engines.quantisation import Wanted as Quantise
from worker.engines.qwen_sight import Sight
from worker.media.rgb import Rgb
from worker.training import adapters
from worker.training.adapters import Adapter
from worker.training.core import numbers_of
from worker.training.settings import Training

if TYPE_CHECKING:
    from torch import Tensor

IMAGE = "<|image_pad|>"
LOOK = "classifier.json"
"""beside the weights: how pictures are shown to the model"""
HEAD = ("score",)
"""what learns besides adapters"""
_STATES = {"qwen2_5_vl": "Qwen2_5_VLPreTrainedModel", "qwen3_vl": "Qwen3VLPreTrainedModel"}


def new(folder: Path, classes: Sequence[str], device: str, training: Training) -> Any:
    """The body of a pretrained one: in 32 bits if all of it learns, else in those that it computes in.

    It is loaded as the model that writes, and moved over: loaded as a classifier, its body would be left
    random where names differ, with no more than a word about it."""
    import torch

    computed = numbers_of(training, next(look(device)))
    numbers: Numbers = "fp32" if training.method == "full" else computed
    kernels: Kernels = "auto" if training.memory_efficient_attention else "eager"
    quantise: Quantise = "nf4" if training.method == "qlora" else "none"
    made = _made(folder, classes, device, quantise, numbers, kernels, computed).model
    head = torch.empty(made.score.weight.shape)
    head.normal_(0, 0.02, generator=torch.Generator().manual_seed(training.seed))
    made.score.weight.data = head.to(made.score.weight.device)
    if training.method == "full":
        return made.requires_grad_(True)
    return adapters.attach(made, training.lora, HEAD)


def trained(choice: Choice, device: str, numbers: Numbers | None = None) -> loading.Loaded:
    """One that was saved."""
    import transformers

    assert choice.file
    family = Sight.of(choice.file).family
    if adapter := Adapter.read(choice.file):
        return _adapted(choice.file, adapter, device, numbers)
    config = transformers.AutoConfig.for_model(family)
    transformers.AutoModelForSequenceClassification.register(type(config), _kind(family), exist_ok=True)
    return loading.load(
        choice, device, architectures="AutoModelForSequenceClassification", wanted_numbers=numbers
    )


def _adapted(folder: Path, adapter: Adapter, device: str, numbers: Numbers | None) -> loading.Loaded:
    """Beside the base that was trained with, in the form that it had then."""
    base = models.lying(adapter.base.name, adapter.base.revision, adapter.base.place)
    told = checkpoint.config(folder)["id2label"]
    classes = [told[str(number)] for number in range(len(told))]
    quantise: Quantise = "nf4" if adapter.method == "qlora" else "none"
    loaded = _made(base, classes, device, quantise, numbers, None)
    adapters.load(adapters.attach(loaded.model, adapter.lora, HEAD), folder)
    adapters.settle(loaded.model)
    return loaded


def _made(
    folder: Path,
    classes: Sequence[str],
    device: str,
    quantise: Quantise,
    numbers: Numbers | None,
    kernels: Kernels | None,
    computed: Precision | None = None,
) -> loading.Loaded:
    """With a head that has no numbers yet."""
    import torch

    Sight.of(folder)  # refuses other families
    loaded = loading.load(
        Choice("classifier", folder.name, file=folder),
        device,
        architectures="AutoModelForImageTextToText",
        quantise=quantise,
        wanted_numbers=numbers,
        wanted_kernels=kernels,
        computed=computed,
    )
    config = loaded.model.config
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: number for number, name in enumerate(classes)}
    text = config.get_text_config()
    if text.pad_token_id is None:
        text.pad_token_id = text.eos_token_id if isinstance(text.eos_token_id, int) else 0
    with torch.device("meta"):
        made = _kind(config.model_type)(config)
    made.model = loaded.model.model
    where = next(loaded.model.parameters()).device
    made.score.weight = torch.nn.Parameter(
        torch.full((len(classes), text.hidden_size), math.nan, device=where)
    )
    return replace(loaded, model=made)


def _kind(family: str) -> Any:
    import transformers
    from transformers.modeling_layers import GenericForSequenceClassification

    state = getattr(transformers, _STATES[family])
    made: Any = type(
        "Classifier",
        (GenericForSequenceClassification, state),
        {"config_class": state.config_class, "accepts_loss_kwargs": False},
    )
    return made


@dataclass(frozen=True, slots=True)
class Reader:
    """Pictures of one size, as the model takes them."""

    sight: Sight
    ids: list[int]
    image: int
    """the token that stands for a part of the picture"""
    side: int

    @classmethod
    def of(cls, folder: Path, prompt: str, pixels: int) -> Reader:
        from transformers import AutoTokenizer

        sight = Sight.of(folder)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        side = max(1, pixels // sight.side) * sight.side
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}],
            tokenize=False,
            add_generation_prompt=True,
        )
        image = tokenizer.convert_tokens_to_ids(IMAGE)
        ids = np.array(tokenizer(chat, add_special_tokens=False).input_ids)
        cells = (side // sight.side) ** 2
        return cls(sight, np.repeat(ids, np.where(ids == image, cells, 1)).tolist(), image, side)

    @property
    def grid(self) -> tuple[int, int, int]:
        return 1, self.side // self.sight.patch, self.side // self.sight.patch

    def inputs(self, pictures: Sequence[Rgb]) -> Mapping[str, Tensor]:
        import torch

        frames = torch.from_numpy(np.stack(pictures)).repeat_interleave(self.sight.depth, 0)
        ids = torch.tensor([self.ids] * len(pictures))
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == self.image).int(),
            "image_grid_thw": torch.tensor([self.grid] * len(pictures)),
            "pixel_values": self.sight.patches(frames),
        }
