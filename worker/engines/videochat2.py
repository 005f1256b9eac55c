"""VideoChat2_HD: a UMT vision tower, a Q-Former and Mistral-7B, whose code comes with the weights.

What is done here is what its makers do around `encode_img`; docs/videochat2.md says how that was compared."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from worker.engines import shims
from worker.engines.batching import Batches
from worker.engines.decoding import Decoder, Prompt, too_large
from worker.engines.engine import Reply, Request, VisionEngine
from worker.engines.positions import drawn_out, sinusoids
from worker.engines.tiles import grid
from worker.errors import MachineError
from worker.items import Failure, Json
from worker.media.rgb import Rgb

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 224
"""of a tile, in pixels"""
TILES = 6
"""at most, beside the view of the whole: with so many it was trained"""
MOST_TOKENS = 512
_PATCHES = (SIDE // 16) ** 2
_PATCHES_AT_ONCE = 65_536
"""keeps every card busy, and costs it some 2 GB whatever the batch"""
_TRAINED_FRAMES = 4
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_INSTRUCTION = "Watch the video and answer the question."
"""to the Q-Former, one a clip: encode_img takes only the first letter of a bare one"""
_STRAY = (0, 1)
"""<unk>, then <s>, begin some answers"""
_STOPS = ((29871, 2), (2,))
"""</s> can be written in two ways"""
_ROWS = 16
"""clips at once, of 200 MB each; fewer once memory has run out"""


class VideoChat2(VisionEngine):
    about = "VideoChat2_HD (Mistral-7B) in the folder that --model names, once its code is allowed to run"
    model: ClassVar[Literal["none", "file", "folder", "name"]] = "folder"

    def frame_size(self, width: int, height: int) -> tuple[int, int]:
        columns, rows = grid(width, height, SIDE, TILES)
        return SIDE * columns, SIDE * rows

    def open(self, device: str) -> None:
        from worker.engines.loading import load

        try:
            with shims.lent():
                loaded = load(
                    self.choice,
                    device,
                    architectures="AutoModel",
                    quantise=self.choice.quantise,
                    settings=settings(self.choice.file),
                )
        except (ImportError, OSError) as error:  # of its own code, or of what that code asks for by name
            told = " ".join(str(error).split())
            raise MachineError(
                f"{self.choice.model} misses what docs/videochat2.md fetches: {told}"
            ) from None
        self.use(loaded.model, loaded.about)

    def use(self, model: Any, about: Mapping[str, Json]) -> None:
        """Ask this model, which lies where it is to compute."""
        shims.keep(model)
        self._model = model.eval().requires_grad_(False)
        self._encoder = model.vision_encoder.encoder
        self._embed = model.mistral_model.model.embed_tokens
        self._decoder = Decoder(model.mistral_model, _STOPS)
        self._frames = 0
        self._about = {**about, "attention": model.mistral_model.config._attn_implementation}
        self._spent: dict[str, float] = defaultdict(int)
        self.batch = _ROWS
        self._batches = Batches(_ROWS, release=self._decoder.release, resized=lambda _: None)
        self._encoder.use_checkpoint = False  # saves memory for gradients, of which there are none
        for block in self._encoder.blocks:
            if all(hasattr(block.attn, name) for name in _ATTENTION):
                block.attn.forward = MethodType(_attend, block.attn)

    def close(self) -> None:
        self._decoder.release()
        del self._model, self._encoder, self._embed, self._decoder, self._batches

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply | Failure]:
        answers = self._batches.answer(requests, self._ask)
        self.batch = self._batches.size
        return answers

    def _ask(self, requests: Sequence[Request]) -> Sequence[Reply | Failure]:
        began = self._now()
        rows = self.embeddings(requests)
        self._spent["vision_s"] += self._now() - began
        said = self._decoder.generate(
            [self._prompt(row, one) for row, one in zip(rows, requests, strict=True)]
        )
        self._spent["requests"] += len(requests)
        self._spent["prompt_tokens"] += sum(len(row) for row in rows)
        self._spent["generated_tokens"] += sum(len(one.tokens) for one in said)
        return [
            too_large(self._about.get("precision"))
            if one.overflowed
            else Reply(self._text(one.tokens), len(one.tokens), one.truncated)
            for one in said
        ]

    @staticmethod
    def _prompt(row: Tensor, request: Request) -> Prompt:
        import torch

        places = torch.arange(len(row), device=row.device)
        read = {"inputs_embeds": row[None], "position_ids": places[None]}
        return Prompt(len(row), lambda: read, min(request.max_tokens, MOST_TOKENS))

    def spent(self) -> Mapping[str, Json]:
        return {
            **self._about,
            **self._spent,
            "decoding": self._decoder.how,
            "prefill_s": round(self._decoder.prefill_s, 3),
            "decode_s": round(self._decoder.decode_s, 3),
            "decode_steps": self._decoder.steps,
        }

    def embeddings(self, requests: Sequence[Request]) -> list[Tensor]:
        """What the language model is given for each of them: tokens x width."""
        import torch

        rows: list[Tensor] = []
        for some in together(requests):
            self._expect(len(some[0].frames))
            videos = [self._pixels(one.frames) for one in some]
            seen, _, is_picture = self._model.encode_img(videos, [_INSTRUCTION] * len(some))
            for one, vectors in zip(some, seen, strict=True):
                head, tail = prompt(one, "Image" if is_picture else "Video")
                middle = vectors[0].to(self._embed.weight.dtype)
                rows.append(torch.cat([self._words(head, first=True), middle, self._words(tail)]))
        return rows

    def _expect(self, frames: int) -> None:
        """The tables of positions are no weights: they are made anew for another number of frames."""
        if frames == self._frames:
            return
        width = self._encoder.patch_embed.proj.out_channels
        where = self._embed.weight.device
        self._encoder.pos_embed = drawn_out(frames, _TRAINED_FRAMES, _PATCHES, width).to(where)
        self._encoder.img_pos_embed = sinusoids(_PATCHES, width)[None].to(where)
        self._frames = frames

    def _pixels(self, frames: Sequence[Rgb]) -> Tensor:
        """frames x 3 x height x width, as the vision tower knows them."""
        import torch

        where = self._embed.weight.device
        values = torch.from_numpy(np.stack(frames))
        if where.type == "cuda":
            values = values.pin_memory()
        video = values.to(where, non_blocking=True).permute(0, 3, 1, 2).contiguous().float().div_(255)
        mean, std = (torch.tensor(one, device=where).view(3, 1, 1) for one in (_MEAN, _STD))
        return video.sub_(mean).div_(std).to(self._encoder.patch_embed.proj.weight.dtype)

    def _words(self, text: str, *, first: bool = False) -> Tensor:
        tokens = self._model.mistral_tokenizer(text, add_special_tokens=first, return_tensors="pt").input_ids
        found: Tensor = self._embed(tokens[0].to(self._embed.weight.device))
        return found

    def _now(self) -> float:
        if self._embed.weight.device.type == "cuda":
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()

    def _text(self, tokens: Sequence[int]) -> str:
        text: str = self._model.mistral_tokenizer.decode(without_stray(tokens))
        return text.split("</s>")[0].strip()


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


def settings(folder: Path | None) -> dict[str, Json]:
    """What stands above its configuration: no FlashAttention, no second checkpoint, and the language model's
    shape and tokenizer from `mistral`, if that is there."""
    told: dict[str, Json] = {"use_flash_attention": False, "videochat2_model_path": ""}
    if folder and (mistral := folder / "mistral").is_dir():
        told["mistral_model_path"] = str(mistral)
    return told


def prompt(request: Request, kind: Literal["Video", "Image"]) -> tuple[str, str]:
    """What stands before and behind what is seen."""
    told = ""
    if kind == "Video":
        seconds = ", ".join(f"{one:.1f}" for one in request.times)
        told = f" The video contains {len(request.times)} frames sampled at {seconds} seconds."
    return f"[INST] <{kind}>", f"</{kind}>{told} [/INST] [INST] {request.prompt} [/INST]"


def without_stray(tokens: Sequence[int]) -> Sequence[int]:
    for stray in _STRAY:
        if tokens and tokens[0] == stray:
            tokens = tokens[1:]
    return tokens


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
