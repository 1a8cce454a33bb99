"""Renders jobs on a GPU or a CPU; the only part of Darkroom that imports torch and diffusers."""

import os

# These libraries read it once, on first import: their messages and progress bars would flood the worker's log.
os.environ.setdefault("DIFFUSERS_VERBOSITY", "critical")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
