"""Encodes videos as MP4: H.264, yuv420p, playable before they are completely loaded, with their origin inside."""

import platform
from collections.abc import Mapping
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.filter import Graph
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from gpu_worker.outputs.sound import SoundTrack
from services.files.media.muxing import muxed_mp4
from services.files.media.sounds import Sound

REPEATABLE = {"x264-params": "cpu-independent=1:asm=sse4.2"} if platform.machine() in {"x86_64", "AMD64"} else {}
"""Measured with the libx264 of PyAV 18.1: with AVX-512, the same frames give different bytes from run to run (30
different files of 60, with one thread); without it, one file of 60. All current x86 CPUs have SSE 4.2."""

QUALITY = {"crf": "18", "preset": "medium", "chroma_sample_location": "left", **REPEATABLE}
"""Settings of x264: its authors call 18 visually lossless; a file takes a few MB for 81 frames of 832 x 480."""

THREADS = 4
"""Number of threads. x264's output depends on it; with a fixed number it is the same on every machine."""

EXACT_FLAGS = "lanczos+accurate_rnd+full_chroma_int+full_chroma_inp"
"""Flags of libswscale: use every pixel, and round instead of truncating. Measured over ten rounds of hard edges: 25.2
dB remain with Lanczos, 24.6 with a bicubic filter."""

FPS_DENOMINATOR_MAX = 1001
"""Maximum denominator of a frame rate: 29.97 frames per second are 30000/1001."""


def encode_mp4(
    frames: NDArray[np.uint8], fps: float, origin: Mapping[str, str | int], sound: Sound | None = None
) -> bytes:
    """Return frames, [frames, height, width, 3] with even height and width, as an MP4. Equal frames give equal bytes.

    A sound gets the video's length: cut, or padded with silence. Raises ValueError if such an MP4 cannot hold the
    video.
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
    """Converts frames of one size to yuv420p in BT.709, which every player assumes, and labels them so.

    Each chroma sample lies where H.264 has it by default: on the left one of its two columns. By itself libswscale
    would put it between them, and a video would move to the left with each continuation.
    """

    def __init__(self, width: int, height: int) -> None:
        self._graph = graph = Graph()  # keeps the graph's parts alive
        self._source = graph.add("buffer", f"video_size={width}x{height}:pix_fmt=rgb24:time_base=1/1:pixel_aspect=1/1")
        scale = graph.add("scale", f"out_color_matrix=bt709:out_range=tv:out_chroma_loc=left:flags={EXACT_FLAGS}")
        into = graph.add("format", "yuv420p")
        self._sink = graph.add("buffersink")
        graph.link_nodes(self._source, scale, into, self._sink).configure()

    def __call__(self, pixels: NDArray[np.uint8]) -> av.VideoFrame:
        """Convert these pixels, [height, width, 3], to a frame."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1)
        self._source.push(frame)
        converted = self._sink.pull()
        if not isinstance(converted, av.VideoFrame):
            raise TypeError("The filter gave no picture back.")
        return converted
