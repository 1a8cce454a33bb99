"""Sampling of traces: whole traces, and the same ones in every process."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind
from opentelemetry.util.types import Attributes


class Ratio(Sampler):
    """A share of all traces, by a hash: the library's own sampler uses bits that are the same in every UUID."""

    def __init__(self, ratio: float) -> None:
        self._bound = round(ratio * 2**64)

    def takes(self, trace_id: int) -> bool:
        """Whether this trace is sampled: the same in every process."""
        return int.from_bytes(hashlib.sha256(trace_id.to_bytes(16)).digest()[8:16]) < self._bound

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: Any = None,  # noqa: ARG002 - part of the interface
    ) -> SamplingResult:
        """See `Sampler`."""
        sampler = ALWAYS_ON if self.takes(trace_id) else ALWAYS_OFF
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links)

    def get_description(self) -> str:
        """See `Sampler`."""
        return f"DarkroomRatio{{{self._bound / 2**64:g}}}"


def ratio_wanted(environment: Mapping[str, str]) -> float:
    """The share of all traces set by `OTEL_TRACES_SAMPLER` and its `_ARG`; otherwise 1."""
    sampler = environment.get("OTEL_TRACES_SAMPLER", "").removeprefix("parentbased_")
    if sampler == "always_off":
        return 0.0
    try:
        return min(1.0, max(0.0, float(environment["OTEL_TRACES_SAMPLER_ARG"]))) if sampler == "traceidratio" else 1.0
    except (KeyError, ValueError):
        return 1.0
