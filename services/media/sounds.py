"""Sounds: how long they are, by decoding them."""

from typing import Any

from services.media.containers import decoded
from services.media.formats import AUDIO_TYPES, Format
from services.media.kinds import SECONDS_MAX, Media, UnreadableMedia


def probe_sound(container: Any, stream: Any, found: Format) -> Media:
    """Decode a sound to its end and say what it is. Raises `UnreadableMedia`."""
    seconds = 0.0
    for frame in decoded(container, stream, found):
        seconds += frame.samples / frame.sample_rate
        if seconds > SECONDS_MAX:
            raise UnreadableMedia(f"The sound is longer than {SECONDS_MAX:g} s.")
    if not seconds:
        raise UnreadableMedia("The sound is empty.")
    return Media("audio", AUDIO_TYPES[found], duration_s=max(0.001, round(seconds, 3)))
