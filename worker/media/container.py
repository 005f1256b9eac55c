"""A video file, opened so that it can read nothing but itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer

from worker.errors import ItemError

# Only formats that hold their own bytes. hls, dash, concat, image2 and their like name other files
# and URLs, so a hostile "video" could make a worker fetch or read them: they are not on the list.
_FORMATS = (
    "mov,matroska,avi,asf,flv,mpegts,mpeg,mpegvideo,m4v,h264,hevc,ivf,obu,mxf,ogg,dv,rm,nut,wtv,"
    "mp3,wav,flac,aac"
)
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
_READ_BYTES = 1 << 18

_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"[playlist]", b"file ", b"http")
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"styp")
_MAGIC = (b"RIFF", b"\x1aE\xdf\xa3", b"FLV", b"\x30\x26\xb2\x75", b"OggS", b"\0\0\1\xba")


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Opened by file object: no name in it is taken for a URL, a pattern or an option."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise ItemError("empty", "the file is empty (0 bytes)")
        try:
            container = av.open(
                file, "r", options=_OPTIONS, buffer_size=_READ_BYTES, metadata_errors="replace"
            )
        except (av.FFmpegError, ValueError) as error:
            raise _why_closed(path, error) from None
        with container:
            yield container


def _why_closed(path: Path, error: Exception) -> ItemError:
    with path.open("rb") as file:
        head = file.read(16)
    if head.lstrip().startswith(_PLAYLISTS):
        return ItemError("not-media", "a list or a text that names other files; these are never followed")
    if head[4:8] in _BOXES:
        return _why_no_index(path)
    if head.startswith(_MAGIC):
        said = getattr(error, "strerror", None) or "its header makes no sense"
        return ItemError("damaged", f"a video file that cannot be opened: {said}")
    return ItemError("not-media", "neither a picture nor a video that we know")


def _why_no_index(path: Path) -> ItemError:
    """An mp4 without its index (moov) plays nowhere: most often the copy stopped before it."""
    size = path.stat().st_size
    at = 0
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            if head[4:8] == b"moov":
                break
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if length < 8:  # 0: "to the end of the file"; else nonsense
                break
            at += length
    if at > size:
        return ItemError(
            "truncated", f"its last {at - size:,} bytes and the index (moov) behind them are missing"
        )
    if at == size:
        return ItemError("truncated", "the index (moov) is missing: the recording or the copy was cut off")
    return ItemError("damaged", "an mp4 whose index (moov) cannot be read")
