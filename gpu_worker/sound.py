"""The sound of a video that goes on: read from the old file, written into the new one, with silence behind it."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

from services.media import DEMUXERS

CODEC: Final = "aac"
BITS_A_SECOND_PER_CHANNEL: Final = 128_000
"""Above what listening tests call transparent: a video that goes on several times is encoded as often."""

RATES: Final = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Samples a second that every player of AAC knows; another rate becomes 48,000."""

LAYOUTS: Final = {1: "mono", 2: "stereo", 6: "5.1"}
"""Of so many channels; another number becomes stereo."""

SECONDS_MAX: Final = 1000.0
"""As many as a video of one frame a second can have that goes on: 380 MB of samples in stereo."""


class NoSound(Exception):
    """The sound cannot be read; the text says why, as the rest of a sentence."""


@dataclass(frozen=True, slots=True)
class Sound:
    """`samples`, [channels, samples] of 32-bit floats, at `rate` a second, from the video's first frame on."""

    samples: NDArray[np.float32]
    rate: int
    layout: str

    def lasting(self, seconds: float) -> "Sound":
        """The same, as long as that: cut, or with silence behind it."""
        wanted = round(seconds * self.rate)
        samples = self.samples[:, :wanted]
        silence = np.zeros((samples.shape[0], wanted - samples.shape[1]), np.float32)
        return Sound(np.concatenate([samples, silence], axis=1), self.rate, self.layout)


def read_sound(video: bytes) -> tuple[Sound | None, int]:
    """The first sound of a video, and how many more tracks there are; None for a silent one. Raises `NoSound`."""
    try:
        with av.open(io.BytesIO(video), "r", container_options=DEMUXERS, metadata_errors="replace") as container:
            tracks = container.streams.audio
            if not tracks:
                return None, 0
            first = _seconds(container.streams.video[0]) if container.streams.video else 0.0
            return _read(container, tracks[0], first), len(tracks) - 1
    except (av.FFmpegError, ValueError, OSError) as error:
        raise NoSound(str(error).splitlines()[0]) from None


def _read(container: Any, track: Any, first_s: float) -> Sound:
    """Each piece lies where its time says, counted from the first frame; what was before that is left out."""
    if track.codec_context is None:
        raise NoSound("it is encoded in a way that is not read here")
    rate = track.rate if track.rate in RATES else RATES[-1]
    layout = LAYOUTS.get(track.channels, "stereo")
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
    pieces: list[tuple[int, NDArray[np.float32]]] = []
    end: int | None = None
    for frame in _decoded(container, track):
        if end is None:  # the resampler keeps samples back: what it gives follows on what it gave
            if frame is None:
                break
            at_s = first_s if frame.pts is None else float(frame.pts * frame.time_base)
            end = round((at_s - first_s) * rate)
        for resampled in resampler.resample(frame):
            samples = np.asarray(resampled.to_ndarray(), dtype=np.float32)
            pieces.append((end, samples))
            end += samples.shape[1]
        if end > SECONDS_MAX * rate:
            raise NoSound(f"it is longer than {SECONDS_MAX:g} s")
    if not pieces or end is None:
        raise NoSound("it is empty")
    whole = np.zeros((pieces[0][1].shape[0], max(end, 0)), np.float32)
    for begin, samples in pieces:
        kept = samples[:, max(0, -begin) :]
        whole[:, max(0, begin) : max(0, begin) + kept.shape[1]] = kept
    return Sound(whole, rate, layout)


def _decoded(container: Any, track: Any) -> Iterator[Any]:
    """The frames, and None at the end, which makes a resampler give what it has kept back."""
    for packet in container.demux(track):
        yield from packet.decode()
    yield None


def _seconds(stream: Any) -> float:
    return float((stream.start_time or 0) * stream.time_base)


class SoundTrack:
    """A sound on its way into a container; add it before anything is muxed."""

    def __init__(self, container: OutputContainer, sound: Sound) -> None:
        self._container = container
        self._sound = sound
        self._stream: Any = container.add_stream(CODEC, rate=sound.rate, layout=sound.layout)
        self._stream.bit_rate = BITS_A_SECOND_PER_CHANNEL * sound.samples.shape[0]
        self._stream.codec_context.flags |= av.codec.context.Flags.bitexact
        self._done = 0

    def write(self, until_s: float | None = None) -> None:
        """Encode up to there, or all that is left: pieces between the frames, so that a player need not seek."""
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
