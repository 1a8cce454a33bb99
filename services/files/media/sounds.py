"""Decodes sounds: their lengths, and the samples of a video's sound track."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from services.files.media.containers import decoded, decoder_of
from services.files.media.formats import AUDIO_TYPES, Format
from services.files.media.kinds import SECONDS_MAX, SOUND_BYTES_MAX, Media, UnreadableMedia

RATES: Final = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Sample rates that every player supports; another rate becomes 48,000."""

LAYOUTS: Final = {1: "mono", 2: "stereo", 6: "5.1"}
"""Layouts by number of channels; another number becomes stereo."""


@dataclass(frozen=True, slots=True)
class Sound:
    """`samples`, [channels, samples] of 32-bit floats, at `rate` per second, starting at the video's first frame."""

    samples: NDArray[np.float32]
    rate: int
    layout: str

    def lasting(self, seconds: float) -> "Sound":
        """The same sound with this length: cut, or padded with silence."""
        wanted = round(seconds * self.rate)
        samples = self.samples[:, :wanted]
        silence = np.zeros((samples.shape[0], wanted - samples.shape[1]), np.float32)
        return Sound(np.concatenate([samples, silence], axis=1), self.rate, self.layout)


def probe_sound(container: Any, stream: Any, found: Format) -> Media:
    """Decode a sound to its end and describe it. Raises `UnreadableMedia`."""
    seconds = 0.0
    for frame in decoded(container, stream, found):
        seconds += frame.samples / frame.sample_rate
        if seconds > SECONDS_MAX:
            raise UnreadableMedia(f"The sound is longer than {SECONDS_MAX:g} s.")
    if not seconds:
        raise UnreadableMedia("The sound is empty.")
    return Media("audio", AUDIO_TYPES[found], duration_s=max(0.001, round(seconds, 3)))


def sound_of(container: Any, track: Any, video: Any | None) -> Sound:
    """The samples of a track by their time stamps, counted from the video's first frame. Raises `UnreadableMedia`.

    Samples before that frame are dropped.
    """
    decoder_of(track)
    rate = track.rate if track.rate in RATES else RATES[-1]
    layout = LAYOUTS.get(track.channels, "stereo")
    first_s = 0.0 if video is None else float((video.start_time or 0) * video.time_base)
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
    pieces: list[NDArray[np.float32]] = []
    begin: int | None = None
    held_bytes = 0
    for frame in _frames(container, track):
        if begin is None:  # the resampler buffers samples: its output continues its previous output
            if frame is None:
                break
            at_s = first_s if frame.pts is None else float(frame.pts * frame.time_base)
            begin = round((at_s - first_s) * rate)
        for resampled in resampler.resample(frame):
            samples = np.asarray(resampled.to_ndarray(), dtype=np.float32)
            pieces.append(samples)
            held_bytes += samples.nbytes
        if held_bytes > SOUND_BYTES_MAX:
            raise UnreadableMedia(f"The sound of the video takes more than {SOUND_BYTES_MAX} bytes.")
    if begin is None or not pieces:
        raise UnreadableMedia("The sound of the video is empty.")
    whole = np.concatenate(pieces, axis=1)
    silence = np.zeros((whole.shape[0], max(0, begin)), np.float32)
    return Sound(np.concatenate([silence, whole[:, max(0, -begin) :]], axis=1), rate, layout)


def _frames(container: Any, track: Any) -> Iterator[Any]:
    """The frames, and None at the end, which flushes a resampler."""
    for packet in container.demux(track):
        yield from packet.decode()
    yield None
