"""The negative prompt of an SDXL image if the owner gives none: a rule over the words of the prompt.

Flaws that any image can have come first. The more people or animals a prompt describes, the more terms for errors of
their bodies follow. Terms that the prompt itself asks for are left out. The rule reads English; a prompt in another
language gets the general terms.
"""

from dataclasses import dataclass
from typing import Final

from domain.wording.beings import PARTS, are_several, beings_of, counts_things
from domain.wording.words import listed, words_of

LENGTH_MAX: Final = 60
"""Maximum number of words and commas. CLIP reads 75 tokens: a comma is one, a rare word two or three."""

QUOTES: Final = frozenset('"“”„«»「」')
"""Quotation marks: the text between them should appear in the image."""


@dataclass(frozen=True, slots=True)
class Term:
    """A flaw, and the words and phrases that ask for it or for something that looks like it."""

    text: str
    asked_by: frozenset[str]


TEXT: Final = Term(
    "text",
    listed("""
        text texts word words letter letters lettering lettered typography typographic font fonts sign signs signage
        poster posters logo logos caption captions subtitle subtitles title titles titled headline label labels labeled
        labelled cover magazine newspaper comic comics manga meme banner billboard graffiti calligraphy says saying
        reads written writing handwriting handwritten quote slogan number numbers menu infographic inscription inscribed
        tattoo tattoos storefront spelling spelled postcard invitation certificate screenshot chalkboard blackboard map
        diagram watermark signature
    """),
)
GENERAL: Final = (
    Term(
        "low quality", listed("low_quality bad_quality poor_quality lofi lo_fi vhs cctv security_camera webcam glitch")
    ),
    Term(
        "blurry",
        listed("""
            blurry blur blurs blurred bokeh depth_of_field out_of_focus soft_focus defocused unfocused tilt_shift
            long_exposure motion dreamy hazy
        """),
    ),
    Term(
        "pixelated",
        listed("""
            pixelated pixel pixels pixelart 8_bit 16_bit 8bit 16bit voxel voxels mosaic low_resolution low_res lowres
            minecraft retro_game
        """),
    ),
    Term(
        "jpeg artifacts",
        listed("jpeg jpg artifact artifacts compression compressed glitch glitchy glitched vhs datamosh"),
    ),
    Term(
        "overexposed", listed("overexposed overexposure high_key blown_out lens_flare glare blinding bright dazzling")
    ),
    Term(
        "oversaturated",
        listed("""
            oversaturated saturated saturation vivid vibrant neon psychedelic colorful colourful rainbow pop_art
            synthwave
        """),
    ),
    Term("watermark", listed("watermark watermarks watermarked")),
    Term("signature", listed("signature signatures signed autograph autographed monogram")),
    TEXT,
)

DISTORTED: Final = listed("""
    deformed deformity disfigured distorted malformed mutant mutants mutated mutation monster monsters monstrous
    creature creatures alien aliens zombie zombies demon demons grotesque bad_anatomy body_horror abstract cubist cubism
    surreal surrealism surrealist picasso dali caricature caricatures chibi doodle stick_figure stick_figures scribble
    melting twisted warped
""")
"""Words that make distorted bodies intentional."""

MANY_LIMBED: Final = listed("""
    octopus octopuses squid spider spiders insect insects centipede ant ants bee bees crab crabs beetle butterfly
    butterflies scorpion shiva kali durga vishnu ganesha hydra cerberus tentacles tentacled extra_limbs extra_arms
    extra_legs multi_armed many_armed four_armed six_armed four_arms six_arms eight_arms many_arms eight_legs six_legs
""")

FOR_BEINGS: Final = (
    Term("bad anatomy", DISTORTED),
    Term("extra limbs", DISTORTED | MANY_LIMBED),
)
FOR_PEOPLE: Final = (
    Term("deformed hands", DISTORTED | listed("amputee prosthetic prosthesis claws hook_hand robot android cyborg")),
    Term("extra fingers", DISTORTED | listed("extra_fingers six_fingers six_fingered many_fingers polydactyl")),
    Term("distorted face", DISTORTED | listed("faceless masked mask scar scarred")),
)
FOR_ANIMALS: Final = (Term("extra legs", DISTORTED | MANY_LIMBED),)
FOR_SEVERAL_BEINGS: Final = (
    Term(
        "merged bodies",
        DISTORTED
        | listed(
            "merged merging fused fusion hybrid chimera centaur centaurs mermaid conjoined siamese double_exposure"
        ),
    ),
    Term(
        "tangled limbs",
        DISTORTED | listed("tangled entangled entwined intertwined wrestling pile contortionist"),
    ),
    Term(
        "floating limbs",
        DISTORTED | listed("floating levitating ghost ghosts disembodied mannequin mannequins"),
    ),
    Term(
        "extra heads",
        DISTORTED | MANY_LIMBED | listed("extra_heads two_headed three_headed two_heads three_heads many_heads"),
    ),
    Term(
        "duplicated faces",
        listed("""
            duplicate duplicated duplicates clone clones cloned twin twins triplets identical mirror mirrored mirrors
            reflection reflections doppelganger doppelgangers kaleidoscope collage
        """),
    ),
)
FOR_SEVERAL_THINGS: Final = (
    Term("merged objects", listed("merged merging fused fusion hybrid melting double_exposure abstract collage pile")),
    Term(
        "duplicated objects",
        listed("""
            duplicate duplicated duplicates clone clones identical mirror mirrored reflection reflections pattern tiled
            kaleidoscope row rows repeating
        """),
    ),
)


def negative_prompt_for(prompt: str) -> str:
    """Terms separated by commas, within `LENGTH_MAX`; deterministic. Empty when the prompt asks for all of them."""
    words = words_of(prompt)
    beings = beings_of(words)
    chosen = list(GENERAL)
    if beings or words.ask_for(PARTS):
        chosen += FOR_BEINGS
        chosen += FOR_PEOPLE if not beings or any(not being.is_animal for being in beings) else ()
        chosen += FOR_ANIMALS if any(being.is_animal for being in beings) else ()
        chosen += FOR_SEVERAL_BEINGS if are_several(words, beings) else ()
    elif counts_things(words):
        chosen += FOR_SEVERAL_THINGS
    quotes = not QUOTES.isdisjoint(prompt)
    return ", ".join(term.text for term in chosen if not words.ask_for(term.asked_by) and not (quotes and term is TEXT))


def is_made_by_rule(text: str, prompt: str | None) -> bool:
    """Whether the rule makes this negative prompt from this prompt."""
    try:
        return prompt is not None and negative_prompt_for(prompt) == text
    except Exception:  # if the rule fails on the prompt, it did not make this text
        return False
