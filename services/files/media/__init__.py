"""Pictures, videos and sounds as bytes, identified by decoding them and not by a name or a header.

Files are untrusted. Sizes, lengths and the work of decoding are bounded before and during decoding; files of users are
decoded in separate processes (`services.files.decoders.bounded`). `kinds`, `formats` and `claims` load no decoder.
"""
