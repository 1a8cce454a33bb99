"""Processes with limits in which untrusted files are decoded."""

from typing import Final

HEADER_BYTES_MAX: Final = 8 * 1024 * 1024
"""Maximum bytes of the header of a question to such a process, and of its answer's, with the origin of a file."""
