"""The codes of all warnings of a job, and of its inputs when it is run again. docs/warnings.md explains each."""

from enum import StrEnum


class WarningCode(StrEnum):
    """Stable codes for programs. The detail of a warning explains the single case."""

    # About the prompts and parameters.
    PROMPT_CUT_OFF = "prompt_cut_off"
    PROMPT_WEIGHTS_IGNORED = "prompt_weights_ignored"
    PROMPT_ALTERNATIVES_IGNORED = "prompt_alternatives_ignored"
    ADAPTER_TAG_IGNORED = "adapter_tag_ignored"
    NEGATIVE_PROMPT_CUT_OFF = "negative_prompt_cut_off"
    NEGATIVE_PROMPT_IGNORED = "negative_prompt_ignored"
    PARAMETERS_IGNORED = "parameters_ignored"

    # About the input files.
    PICTURE_CROPPED = "picture_cropped"
    COLOUR_PROFILE_IGNORED = "colour_profile_ignored"
    HIGH_DYNAMIC_RANGE_REDUCED = "high_dynamic_range_reduced"
    SOUND_LOST = "sound_lost"
    SOUND_TRACKS_LOST = "sound_tracks_lost"
    CHARACTER_REFERENCE = "character_reference"
    CHARACTER_REFERENCES_MIX = "character_references_mix"
    CHARACTER_REFERENCE_STRONG = "character_reference_strong"

    # About changes since the job that is run again.
    JOB_TYPE_UNKNOWN = "job_type_unknown"
    MODEL_CHANGED = "model_changed"
    MODEL_UNKNOWN = "model_unknown"
    TASK_CHANGED = "task_changed"
    SEEDS_CHANGED = "seeds_changed"
    MEDIA_GONE = "media_gone"
    OPTIONS_INVALID = "options_invalid"
