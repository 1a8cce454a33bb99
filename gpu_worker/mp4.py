"""Videos as MP4: H.264, yuv420p, ready to play before all of it is there, with their origin inside."""

import platform
from collections.abc import Mapping
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.filter import Graph
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from gpu_worker.sound import SoundTrack
from services.media.muxing import muxed_mp4
from services.media.sounds import Sound

REPEATABLE = {"x264-params": "cpu-independent=1:asm=sse4.2"} if platform.machine() in {"x86_64", "AMD64"} else {}
"""Measured with the libx264 that PyAV 18.1 brings: where the CPU has AVX-512, the same frames give other bytes from run
to run (30 different files of 60, with one thread); without it, one file of 60. Every x86 CPU of today has SSE 4.2.
"""

QUALITY = {"crf": "18", "preset": "medium", "chroma_sample_location": "left", **REPEATABLE}
"""x264's: 18 is what its authors call visually lossless; a file takes a few MB for 81 frames of 832 x 480."""

THREADS = 4
"""x264 writes other bytes with another number of threads; with this one they are the same on every machine."""

EXACT_FLAGS = "lanczos+accurate_rnd+full_chroma_int+full_chroma_inp"
"""How colours become others: every pixel counts, rounded and not cut off. Measured over ten rounds of hard edges:
25.2 dB are left with Lanczos, 24.6 with a bicubic filter."""

FPS_DENOMINATOR_MAX = 1001
"""29.97 frames a second are 30000/1001."""


def encode_mp4(
    frames: NDArray[np.uint8], fps: float, origin: Mapping[str, str | int], sound: Sound | None = None
) -> bytes:
    """Return frames, [frames, height, width, 3] with even height and width, as an MP4; the same ones as the same bytes.

    A sound is as long as the video: cut, or with silence behind it. Raises ValueError for what no such MP4 can hold.
    """
    count, height, width, _ = frames.shape
    rate = Fraction(fps).limit_denominator(FPS_DENOMINATOR_MAX)
    if not count or rate <= 0:
        raise ValueError(f"A video needs frames and a rate, but these are {count} at {fps:g} a second.")
    if height % 2 or width % 2:
        raise ValueError(f"A video in yuv420p has an even width and height, but these are {width} x {height}.")

    def write(container: OutputContainer) -> None:
        stream = container.add_stream("libx264", rate=rate, options=QUALITY)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        codec = stream.codec_context
        codec.thread_count = THREADS
        codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
        codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        track = None if sound is None else SoundTrack(container, sound.lasting(count / float(rate)))
        to_yuv = _Yuv(width, height)
        for number, pixels in enumerate(frames):
            frame = to_yuv(pixels)
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
            if track is not None:
                track.write(until_s=number / float(rate))
        container.mux(stream.encode(None))
        if track is not None:
            track.write()

    return muxed_mp4(origin, write)


class _Yuv:
    """Frames of one size to yuv420p, in BT.709, as every player takes for granted, and saying so.

    Each sample of colour lies where H.264 has it unless told otherwise: on the left one of its two columns. libswscale
    alone would put it between them, and a video would move to the left each time that it goes on.
    """

    def __init__(self, width: int, height: int) -> None:
        self._graph = graph = Graph()  # its parts live as long as it does
        self._source = graph.add("buffer", f"video_size={width}x{height}:pix_fmt=rgb24:time_base=1/1:pixel_aspect=1/1")
        scale = graph.add("scale", f"out_color_matrix=bt709:out_range=tv:out_chroma_loc=left:flags={EXACT_FLAGS}")
        into = graph.add("format", "yuv420p")
        self._sink = graph.add("buffersink")
        graph.link_nodes(self._source, scale, into, self._sink).configure()

    def __call__(self, pixels: NDArray[np.uint8]) -> av.VideoFrame:
        """The frame of these pixels, [height, width, 3]."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1)
        self._source.push(frame)
        converted = self._sink.pull()
        if not isinstance(converted, av.VideoFrame):
            raise TypeError("The filter gave no picture back.")
        return converted
