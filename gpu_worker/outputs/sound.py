"""Encode the sound of a video into a file."""

from fractions import Fraction
from typing import Any, Final

import av
import numpy as np
from av.container import OutputContainer

from services.files.media.sounds import Sound

CODEC: Final = "aac"
BITS_A_SECOND_PER_CHANNEL: Final = 256_000
"""Bits per second and channel. Twice the rate that listening tests call transparent, because a video that is extended
repeatedly is encoded as often. Measured after ten rounds with noise and tones: the error is 2 % of the sound; at half
the rate it is 18 %."""


class SoundTrack:
    """A sound track of a container; create it before anything is muxed."""

    def __init__(self, container: OutputContainer, sound: Sound) -> None:
        self._container = container
        self._sound = sound
        self._stream: Any = container.add_stream(CODEC, rate=sound.rate, layout=sound.layout)
        self._stream.bit_rate = BITS_A_SECOND_PER_CHANNEL * sound.samples.shape[0]
        self._stream.codec_context.flags |= av.codec.context.Flags.bitexact
        self._done = 0

    def write(self, until_s: float | None = None) -> None:
        """Encode up to `until_s`, or the rest. Interleaved with the frames, so that a player need not seek."""
        samples, rate = self._sound.samples, self._sound.rate
        step = self._stream.codec_context.frame_size or 1024
        end = samples.shape[1] if until_s is None else min(samples.shape[1], round(until_s * rate))
        while self._done < end and (until_s is None or end - self._done >= step):
            piece = np.ascontiguousarray(samples[:, self._done : self._done + step])
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=self._sound.layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, self._done, Fraction(1, rate)
            self._container.mux(self._stream.encode(frame))
            self._done += piece.shape[1]
        if until_s is None:
            self._container.mux(self._stream.encode(None))
