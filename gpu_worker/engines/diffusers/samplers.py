"""The sampler of a request, as a diffusers scheduler for the model."""
# mypy: allow-untyped-calls

from collections.abc import Mapping
from typing import Any

from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler

from domain.recipes.recipe import ParamValue
from gpu_worker.engines import InvalidRequest

EULER, DPM = "euler", "dpm++"


def scheduler_for(own: Any, params: Mapping[str, ParamValue]) -> Any:
    """The scheduler of `sampler` ("euler", "dpm++") and `karras`; the model's own if none is named.

    Its other settings, above all the prediction type and zero-SNR noise, are those of the model's own scheduler. Raises
    InvalidRequest.
    """
    sampler, karras = params.get("sampler"), params.get("karras", False)
    if sampler not in {None, EULER, DPM}:
        raise InvalidRequest(f"The sampler has to be {EULER} or {DPM} with this model, but is {sampler}.")
    if karras and sampler != DPM:
        raise InvalidRequest(f"Karras noise needs the sampler {DPM}; name that one, or leave karras out.")
    if sampler is None or (sampler == EULER and isinstance(own, EulerDiscreteScheduler)):
        return own
    if sampler == EULER:
        return EulerDiscreteScheduler.from_config(own.config)
    # At most one spacing of the noise may be on.
    spacing = {"use_karras_sigmas": True, "use_exponential_sigmas": False, "use_beta_sigmas": False}
    chosen = spacing if karras else {"use_karras_sigmas": False}
    return DPMSolverMultistepScheduler.from_config(own.config, algorithm_type="dpmsolver++", **chosen)
