"""A camera on the network: an endless MPEG-TS over HTTP, at the pace of its clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av

from tests import media

RATE = 25
GOP = 12


@contextmanager
def camera() -> Iterator[str]:
    """→ its address. Each caller sees the film from its beginning."""
    over = threading.Event()

    class Live(_Live):
        off = over

    with ThreadingHTTPServer(("127.0.0.1", 0), Live) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/live.ts"
        finally:
            over.set()
            server.shutdown()


class _Live(BaseHTTPRequestHandler):
    off: threading.Event

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "video/mp2t")
        self.end_headers()
        with suppress(OSError, av.FFmpegError):  # the caller has gone
            self._play()

    def _play(self) -> None:
        began = time.monotonic()
        with av.open(self.wfile, "w", format="mpegts", options={"flush_packets": "1"}) as out:
            options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(GOP), "threads": "1"}
            stream = out.add_stream("libx264", rate=RATE, options=options)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = media.WIDTH, media.HEIGHT, "yuv420p"
            n = 0
            while not self.off.wait(max(0.0, began + n / RATE - time.monotonic())):
                frame = av.VideoFrame.from_ndarray(media.moving(n % 900), "rgb24")
                frame.pts, frame.time_base = n, Fraction(1, RATE)
                out.mux(stream.encode(frame))
                n += 1

    def log_message(self, *_: object) -> None:
        """The tests speak."""
