"""Enhance a prompt by rule, for installations without a language model.

The original text stays unchanged at the start. Images have the aspects light, composition, detail and colour; videos
also have motion and camera. The rules append a generic phrase for each aspect that the prompt does not mention. A long
prompt gets fewer phrases than a short one. The rules read English.
"""

from dataclasses import dataclass
from typing import Final

from domain.recipes.recipe import Kind
from domain.wording.words import Words, listed, words_of

RULES: Final = "rules 1"
"""Name and version; it changes when the output for a prompt changes."""

ADDED_CHARACTERS_MAX: Final = 600
"""Maximum number of characters added; a test checks the tables below against it."""

CHARACTERS_MAX: Final = 10_000
"""Maximum length of an enhanced prompt; equal to that of a submitted one."""

ALLOWANCES: Final = ((12, 6), (30, 4), (60, 2), (120, 1))
"""(words, aspects): a prompt of at most so many words gets so many aspects; a longer prompt gets none."""

SENTENCE_ENDS: Final = ".!?…。！？"  # noqa: RUF001 - those of East Asia are meant
PHRASE_ENDS: Final = ",;:،、，；："  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Aspect:
    """An aspect of an image, the words that mention it, and the phrase to add otherwise."""

    settled_by: frozenset[str]
    phrase: str
    drawn_phrase: str
    """The phrase for a drawing or painting."""


def _forms(verbs: str) -> frozenset[str]:
    """All forms of each verb: `pan pans panning panned`, `move moves moving moved`."""
    forms = set()
    for verb in verbs.split():
        stem = verb.removesuffix("e")
        forms |= {
            verb,
            f"{verb}s",
            f"{verb}es",
            f"{stem}ing",
            f"{stem}ed",
            f"{verb}{verb[-1]}ing",
            f"{verb}{verb[-1]}ed",
        }
    return frozenset(forms)


DRAWN: Final = listed("""
    drawing drawn illustration illustrated painting painted watercolor watercolour gouache oil acrylic sketch anime
    manga cartoon comic vector flat pixel pixelart voxel ink engraving woodcut etching linocut logo icon sticker mosaic
    stained_glass papercut origami low_poly lowpoly isometric children_s_book storybook impressionist impressionism
    ukiyo_e cubist cubism art_nouveau art_deco pop_art concept_art line_art clay claymation render rendering
""")

LIGHT: Final = Aspect(
    listed("""
        light lights lit lighting sunlight sunlit sunshine sunny sun sunset sunrise dawn dusk twilight night nighttime
        midnight evening morning noon midday afternoon golden_hour blue_hour moon moonlight moonlit starlight stars
        starry shadow shadows shadowy shade dark darkness dim gloomy bright brightly glow glowing glows neon lamp lamps
        candle candles candlelight lantern lanterns torch torches fire flames firelight campfire fireplace fireworks
        backlit backlight backlighting silhouette silhouetted low_key high_key chiaroscuro rim studio spotlight
        spotlights overcast cloudy storm stormy lightning aurora luminous illuminated reflections god_rays flash
        fluorescent
    """),
    "soft natural light that shapes the subject",
    "light and shade placed with care",
)
COMPOSITION: Final = Aspect(
    listed("""
        composition composed compositions framing framed frame close_up closeup close wide portrait headshot macro
        panorama panoramic aerial overhead bird_s_eye top_down flat_lay symmetrical symmetry symmetric centered centred
        center rule_of_thirds foreground background backdrop perspective angle shot view viewpoint isometric full_body
        half_body depth_of_field bokeh negative_space leading_lines wallpaper poster logo icon pattern seamless collage
        landscape
    """),
    "balanced composition with one clear centre of interest",
    "balanced composition with one clear centre of interest",
)
DETAIL: Final = Aspect(
    listed("""
        detail details detailed intricate intricately texture textures textured sharp sharply sharpness crisp focus
        focused realistic realism photorealistic hyperrealistic photoreal lifelike 4k 8k hd uhd high_resolution hires
        quality masterpiece minimal minimalist minimalistic minimalism simple simplified plain flat sketch sketchy
        doodle abstract blurry blurred blur soft_focus out_of_focus grainy grain pixel pixelart pixelated low_poly
        lowpoly lofi rough crude smooth silhouette icon logo
    """),
    "fine detail and true-to-life textures",
    "clean lines and well-kept detail",
)
COLOUR: Final = Aspect(
    listed("""
        color colors colored colorful colour colours coloured colourful palette hue hues tone tones toned tint tinted
        monochrome monochromatic black white grey gray red green blue yellow orange purple violet pink brown cyan
        magenta teal turquoise crimson scarlet amber gold golden silver bronze copper beige ivory sepia pastel vivid
        vibrant saturated desaturated muted neon rainbow faded noir grayscale greyscale
    """),
    "harmonious colours",
    "harmonious colours",
)
MOTION: Final = Aspect(
    _forms("""
        move walk jump turn spin rotate dance drift flow float fall roll race drive jog stroll march climb crawl slide
        skate ski sail wave flicker flutter sway bounce pour splash explode burst melt grow bloom rise sink blow swirl
        whirl gallop trot chase hop leap glide soar hover wander rush sprint juggle wink blink smile laugh talk nod
        shake cook stir
    """)
    | listed("""
        motion motions motionless movement movements still static frozen run runs running swim swims swimming fly flies
        flying ride rides riding sing sings singing swing swings swinging slow_motion timelapse time_lapse hyperlapse
        animated animation loop looping speed fast slowly quickly
    """),
    "smooth, natural motion that holds together from frame to frame",
    "smooth, natural motion that holds together from frame to frame",
)
CAMERA: Final = Aspect(
    _forms("pan tilt zoom orbit track dolly follow circle")
    | listed("""
        camera cameras handheld steadicam gimbal drone aerial crane pov point_of_view first_person static_shot locked
        lens push_in pull_back flyover fly_through one_take shot shots
    """),
    "a calm, steady camera",
    "a calm, steady camera",
)

ASPECTS: Final = {
    Kind.IMAGE: (LIGHT, COMPOSITION, DETAIL, COLOUR),
    Kind.VIDEO: (MOTION, CAMERA, LIGHT, COMPOSITION, DETAIL, COLOUR),
}
OWN_PHRASES: Final = tuple(
    dict.fromkeys(phrase for one in ASPECTS[Kind.VIDEO] for phrase in (one.phrase, one.drawn_phrase))
)


def enhance(prompt: str, kind: Kind) -> str:
    """The prompt with a phrase for each open aspect; unchanged if there is none or if it was already enhanced."""
    folded = prompt.casefold()
    if any(phrase in folded for phrase in OWN_PHRASES):
        return prompt
    words = words_of(prompt, heed_denials=False)  # `no shadows` mentions light too
    drawn = words.ask_for(DRAWN)
    open_ones = [aspect for aspect in ASPECTS[kind] if not words.ask_for(aspect.settled_by)]
    phrases = [aspect.drawn_phrase if drawn else aspect.phrase for aspect in open_ones[: _allowance(words)]]
    asked = prompt.rstrip()
    richer = asked + _continued(asked[-1], ", ".join(phrases)) if asked and phrases else prompt
    return richer if len(richer) <= CHARACTERS_MAX else prompt


def _allowance(words: Words) -> int:
    count = sum(1 for word in words.tokens if word)
    return next((aspects for words_max, aspects in ALLOWANCES if count <= words_max), 0)


def _continued(last: str, phrases: str) -> str:
    """The phrases, punctuated and capitalised to follow a text that ends in `last`."""
    if last in SENTENCE_ENDS:
        return f" {phrases[0].upper()}{phrases[1:]}."
    return f" {phrases}" if last in PHRASE_ENDS else f", {phrases}"
