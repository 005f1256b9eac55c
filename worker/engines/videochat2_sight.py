"""What VideoChat2_HD's language model is given of clips and questions: what the vision tower and the Q-Former
make of the tiles, between the words of the prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from worker.engines import flops
from worker.engines.carrying import Carrier
from worker.engines.engine import Request
from worker.engines.positions import drawn_out, sinusoids
from worker.media.rgb import Rgb

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 224
"""of a tile, in pixels"""
TILES = 6
"""at most, beside the view of the whole: with so many it was trained"""
FRAMES = 32
"""of a clip as it is expected"""
VECTORS = 96
"""a tile becomes"""
_PATCHES = (SIDE // 16) ** 2
_PATCHES_AT_ONCE = FRAMES * (TILES + 1) * _PATCHES
"""those of the largest clip that is expected, so that no batch takes more memory than that"""
_TRAINED_FRAMES = 4
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_INSTRUCTION = "Watch the video and answer the question."
"""to the Q-Former, one a clip: encode_img takes only the first letter of a bare one"""


class Sight:
    def __init__(self, model: Any) -> None:
        import torch

        self._model = model
        self._encoder = model.vision_encoder.encoder
        self._embed = model.mistral_model.model.embed_tokens
        self._device = self._embed.weight.device
        self._dtype = self._encoder.patch_embed.proj.weight.dtype
        self._mean, self._std = (torch.tensor(one).view(3, 1, 1).to(self._device) for one in (_MEAN, _STD))
        self._carrier = Carrier(self._device)
        self._frames = 0
        self._encoder.use_checkpoint = False  # saves memory for gradients, of which there are none
        for block in self._encoder.blocks:
            if all(hasattr(block.attn, name) for name in _ATTENTION):
                block.attn.forward = MethodType(_attend, block.attn)

    def rows(self, requests: Sequence[Request], between: Callable[[], bool] = lambda: True) -> list[Tensor]:
        """What the language model is given for each of them: tokens x width. It ends early, with fewer of
        them, where `between` says no."""
        import torch

        rows: list[Tensor] = []
        for some in together(requests):
            if not between():
                break
            self._expect(len(some[0].frames))
            videos = [self.pixels(one.frames) for one in some]
            seen, _, is_picture = self._model.encode_img(videos, [_INSTRUCTION] * len(some))
            for one, vectors in zip(some, seen, strict=True):
                head, tail = prompt(one, "Image" if is_picture else "Video")
                middle = vectors[0].to(self._embed.weight.dtype)
                rows.append(torch.cat([self._words(head, first=True), middle, self._words(tail)]))
        return rows

    def flops(self, request: Request) -> float | None:
        """What it takes to see a clip. None: its code calls its parts otherwise than the public one."""
        if not (hasattr(self._model, "qformer") and hasattr(self._model, "tokenizer")):
            return None
        words = len(self._model.tokenizer(_INSTRUCTION).input_ids)
        patches = len(request.frames) * _PATCHES
        tiles = patches_of(request) // patches
        width = self._embed.weight.shape[1]
        asked = flops.qformer(self._model.qformer.config, patches, VECTORS, words, width)
        return tiles * (flops.umt(self._encoder, patches) + asked)

    def _expect(self, frames: int) -> None:
        """The tables of positions are no weights: they are made anew for another number of frames."""
        if frames == self._frames:
            return
        width = self._encoder.patch_embed.proj.out_channels
        self._encoder.pos_embed = drawn_out(frames, _TRAINED_FRAMES, _PATCHES, width).to(self._device)
        self._encoder.img_pos_embed = sinusoids(_PATCHES, width)[None].to(self._device)
        self._frames = frames

    def pixels(self, frames: Sequence[Rgb]) -> Tensor:
        """frames x 3 x height x width, as the vision tower knows them."""
        values = self._carrier.bring(np.stack(frames))
        video = values.permute(0, 3, 1, 2).contiguous().float().div_(255)
        return video.sub_(self._mean).div_(self._std).to(self._dtype)

    def _words(self, text: str, *, first: bool = False) -> Tensor:
        ids = self._model.mistral_tokenizer(text, add_special_tokens=first).input_ids
        found: Tensor = self._embed(self._carrier.bring(np.asarray(ids, np.int64)))
        return found


def together(requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
    """Neighbours with as many frames, whose tiles the vision tower looks at in one go."""
    some: list[Request] = []
    patches = 0
    for one in requests:
        more = patches_of(one)
        if some and (len(one.frames) != len(some[0].frames) or patches + more > _PATCHES_AT_ONCE):
            yield some
            some, patches = [], 0
        some.append(one)
        patches += more
    if some:
        yield some


def patches_of(request: Request) -> int:
    height, width, _ = request.frames[0].shape
    tiles: int = height * width // SIDE**2
    return len(request.frames) * (tiles + 1) * _PATCHES


def prompt(request: Request, kind: Literal["Video", "Image"]) -> tuple[str, str]:
    """What stands before and behind what is seen."""
    told = ""
    if kind == "Video":
        seconds = ", ".join(f"{one:.1f}" for one in request.times)
        told = f" The video contains {len(request.times)} frames sampled at {seconds} seconds."
    return f"[INST] <{kind}>", f"</{kind}>{told} [/INST] [INST] {request.prompt} [/INST]"


_ATTENTION = ("qkv", "q_bias", "v_bias", "proj", "num_heads", "scale")
"""of which its vision tower's attention is made, as far as it was seen"""


def _attend(self: Any, x: Tensor) -> Tensor:
    """What its own attention computes, without the matrix of 6,272 x 6,272 a head that 32 frames give."""
    import torch
    from torch.nn.functional import linear, scaled_dot_product_attention

    bias = (
        None if self.q_bias is None else torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))
    )
    qkv = linear(x, self.qkv.weight, bias).reshape(*x.shape[:2], 3, self.num_heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    found = scaled_dot_product_attention(query, key, value, scale=self.scale)
    return self.proj(found.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]
