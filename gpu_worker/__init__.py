"""Turns jobs into images on a GPU or a CPU; the only part of Darkroom that imports torch and diffusers."""

import os

# Read by these libraries once, when they are first imported: their notes and bars would drown the worker's own log.
os.environ.setdefault("DIFFUSERS_VERBOSITY", "critical")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
