"""Batches and comparisons: jobs that are submitted together."""

from api.batches.bodies import ALL as BODIES
from api.batches.routes import router

__all__ = ["BODIES", "router"]
