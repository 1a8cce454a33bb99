"""Pictures, videos and sounds as bytes, identified by decoding them and not by a name or a header.

Files are untrusted. Sizes, lengths and the work of decoding are bounded before and during decoding; files of users are
decoded in separate processes (`services.files.decoders.bounded`).
"""

from services.files.media.frames import EXACTLY
from services.files.media.kinds import Media, UnreadableMedia
from services.files.media.pictures import picture_sha256
from services.files.media.reading import probe, read_frame, read_image, read_origin, read_video

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
