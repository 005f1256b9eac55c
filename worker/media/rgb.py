"""Frames as RGB arrays, of the size that is wanted and turned as the file asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import av
import numpy as np
from av import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

Rgb: TypeAlias = NDArray[np.uint8]
"""height x width x 3, red first"""
Size: TypeAlias = tuple[int, int] | Callable[[int, int], tuple[int, int]] | None
"""width and height as shown, or how to tell them from the film's own; None: as the film is"""

# Scaled in the same step, which is several times cheaper than converting a whole frame first. Without full
# chroma the colours are 12 dB further from those of Pillow's bicubic, and white is 253; with bit-exactness
# every processor gives the same bytes.
_BICUBIC = (
    Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
)
# Unscaled it costs a thirtieth, colours are a level or two off, and every processor gives the same bytes.
_QUICK = Interpolation.BILINEAR | Interpolation.BITEXACT


class ToRgb:
    """The first frame fixes the size; a film may change its own."""

    def __init__(self, size: Size = None, *, quick: bool = False, sharp: bool = False) -> None:
        """`sharp`: each pixel comes from the 4 x 4 about its place, however many lie between."""
        self._size = size
        self._sharp = sharp
        self._interpolation = _QUICK if quick else _BICUBIC
        self._scaler = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Rgb:
        width, height = self._size = self.shape(frame)
        turns = _turns(frame)
        if turns % 2:
            width, height = height, width
        if self._sharp:
            small = _sharply(self._rgb(frame, frame.width, frame.height, _QUICK), width, height)
        else:
            small = self._rgb(frame, width, height, self._interpolation)
        return np.ascontiguousarray(np.rot90(small, turns))  # torch takes no others

    def _rgb(self, frame: VideoFrame, width: int, height: int, interpolation: Interpolation) -> Rgb:
        try:
            small = self._scaled(frame, width, height, interpolation)
        except av.FFmpegError:  # it knows not this colour matrix, or the tag is damaged: then as if untagged
            small = self._scaled(frame, width, height, interpolation, Colorspace.ITU601)
        return small.to_ndarray().astype(np.uint8, copy=False)

    def _scaled(
        self,
        frame: VideoFrame,
        width: int,
        height: int,
        interpolation: Interpolation,
        matrix: Colorspace | None = None,
    ) -> VideoFrame:
        return self._scaler.reformat(
            frame,
            width,
            height,
            "rgb24",
            src_colorspace=matrix,
            dst_colorspace=matrix,
            interpolation=interpolation,
            threads=1,
        )

    def shape(self, frame: VideoFrame) -> tuple[int, int]:
        """Width and height that such a frame gets."""
        if isinstance(self._size, tuple):
            return self._size
        shown = (frame.height, frame.width) if _turns(frame) % 2 else (frame.width, frame.height)
        return self._size(*shown) if self._size else shown


def _sharply(frame: Rgb, width: int, height: int) -> Rgb:
    """What torch's bicubic without antialiasing gives, in whole levels."""
    import cv2

    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)


def _turns(frame: VideoFrame) -> int:
    """Quarters, against the clock."""
    return round(frame.rotation / 90)
