"""Pictures, videos and sounds as bytes: what they are is decided by decoding them, never by a name or a header.

Whoever brings a file may mean harm. Sizes, lengths and the work of decoding are bounded before anything is decoded, and
again while it is; what others bring is decoded in processes of its own (`services.media.bounded`).
"""

from services.media.frames import EXACTLY
from services.media.kinds import Media, UnreadableMedia
from services.media.pictures import picture_sha256
from services.media.reading import probe, read_frame, read_image, read_origin, read_video

__all__ = [
    "EXACTLY",
    "Media",
    "UnreadableMedia",
    "picture_sha256",
    "probe",
    "read_frame",
    "read_image",
    "read_origin",
    "read_video",
]
