"""Find the people and animals that a prompt describes, and whether there are several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from domain.wording.words import Words, listed

WOMEN: Final = listed("""
    woman girl lady mother mom mum daughter sister wife bride queen princess grandmother grandma aunt actress
    waitress witch goddess ballerina businesswoman policewoman heroine geisha empress housewife cowgirl schoolgirl
    girlfriend nun duchess she
""")
MEN: Final = listed("""
    man boy gentleman father dad son brother husband groom king prince grandfather grandpa uncle waiter wizard monk
    businessman policeman fireman fisherman cowboy emperor samurai lumberjack schoolboy boyfriend guy lad duke
    snowman he
""")
ANYBODY: Final = listed("""
    person human child kid baby infant toddler teenager teen adult friend neighbor neighbour dancer singer musician
    guitarist pianist violinist drummer player athlete runner boxer wrestler soldier warrior knight ninja pirate
    viking astronaut doctor nurse chef artist scientist teacher student farmer worker detective rider cyclist
    swimmer surfer skier climber hiker traveler traveller tourist pilot sailor driver villager hunter archer thief
    assassin hero superhero villain vampire zombie elf dwarf fairy angel demon clown cyborg android robot guard
    magician mage sorcerer druid shaman explorer adventurer stranger vendor barista bartender baker butcher
    blacksmith firefighter lover twin sibling parent character actor mermaid
""")
PARTS: Final = listed("""
    portrait portraits selfie selfies headshot headshots face faces hand hands finger fingers body bodies nude
""")
"""Words that imply a person or animal but do not say which: a portrait may be of a dog."""

GROUPS: Final = listed("""
    people persons folks family families crowd crowds audience team teams orchestra choir couple couples group
    groups newlyweds triplets everybody everyone spectators passersby
""")
"""Single words for several people. `couple` and `group` count only without a following `of`."""

ANIMALS: Final = listed("""
    animal cat kitten dog puppy horse pony foal fox wolf bear lion lioness tiger leopard cheetah panther jaguar
    elephant giraffe zebra rhino hippo monkey ape gorilla chimpanzee rabbit bunny hare squirrel mouse rat hamster
    deer stag moose elk cow bull calf goat sheep lamb pig piglet donkey camel llama alpaca kangaroo koala panda
    raccoon badger otter beaver hedgehog sloth bird owl eagle hawk falcon raven crow parrot peacock swan duck
    duckling goose penguin flamingo pigeon sparrow hummingbird chicken hen rooster fish shark whale dolphin turtle
    tortoise frog toad lizard snake crocodile alligator dragon dinosaur unicorn phoenix griffin spider octopus crab
    butterfly bee ant insect
""")

IRREGULAR: Final[Mapping[str, str]] = {
    "child": "children", "wolf": "wolves", "calf": "calves", "thief": "thieves", "elf": "elves", "dwarf": "dwarves",
    "mouse": "mice", "goose": "geese", "wife": "wives", "hero": "heroes", "superhero": "superheroes", "human": "humans",
    "fish": "", "sheep": "", "deer": "", "moose": "", "she": "", "he": "",
}  # fmt: skip
"""Irregular plurals; empty where the word does not imply several."""

COUNTS: Final = listed("""
    two three four five six seven eight nine ten eleven twelve dozen dozens several many multiple various numerous
    both pair pairs duo trio quartet bunch herd flock pack swarm hundreds thousands couple group groups
""")
COUNTED_WITHIN: Final = 4
"""Number of words searched after a count: `two very old fishing boats`."""

NO_THINGS: Final = listed("""
    this always perhaps quarters seconds minutes hours days weeks months years times colors colours tones shades
    steps ways degrees meters metres miles inches pixels bits layers dimensions sides
""")

JOINING: Final = listed("""
    and with beside near versus vs facing hugging kissing behind chasing fighting meets meeting holding carrying
    another against watching feeding teaching
""")
JOINED_WITHIN: Final = 6

TOGETHER: Final = frozenset({"both", "each other", "one another", "together"})


@dataclass(frozen=True, slots=True)
class Being:
    """A person or animal in a prompt: its word index, its kind, and whether the word itself is plural."""

    at: int
    kind: str
    is_animal: bool
    are_many: bool


def _plural(noun: str) -> str:
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if noun.endswith("man"):
        return f"{noun[:-3]}men"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return noun + ("es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s")


def _known() -> dict[str, tuple[str, bool, bool]]:
    """Kind, whether it is an animal, and whether it is plural, by word."""
    kinds = [(noun, "woman") for noun in WOMEN] + [(noun, "man") for noun in MEN] + [(noun, "") for noun in ANYBODY]
    known = dict.fromkeys(GROUPS, ("", False, True))
    for noun, kind in kinds:
        known |= {noun: (kind, False, False), _plural(noun): (kind, False, True)}
    for noun in ANIMALS:
        known |= {noun: (noun, True, False), _plural(noun): (noun, True, True)}
    known.pop("", None)  # from words without a plural of their own
    return known


KNOWN: Final = _known()


def beings_of(words: Words) -> list[Being]:
    """All people and animals in the prompt, in order."""
    beings = []
    for at, word in enumerate(words.tokens):
        if word in KNOWN and not (word in COUNTS and words.following(at, 1) == ("of",)):
            kind, is_animal, are_many = KNOWN[word]
            beings.append(Being(at, kind, is_animal, are_many))
    return beings


def are_several(words: Words, beings: Sequence[Being]) -> bool:
    """Whether there are several: a plural, a count, two kinds, or two that are joined."""
    if not beings:
        return False
    if any(being.are_many for being in beings) or words.ask_for(TOGETHER):
        return True
    counted = {at + step for at in _counts(words) for step in range(1, len(words.following(at, COUNTED_WITHIN)) + 1)}
    return any(being.at in counted for being in beings) or any(
        _are_two(words, first, second) for first, second in pairwise(beings)
    )


def counts_things(words: Words) -> bool:
    """Whether the prompt counts things: `three red boats`."""
    return any(
        len(word) > 3 and word.endswith("s") and not word.endswith("ss") and word not in NO_THINGS
        for at in _counts(words)
        for word in words.following(at, COUNTED_WITHIN)
    )


def _counts(words: Words) -> list[int]:
    return [at for at, word in enumerate(words.tokens) if word in COUNTS or _is_count(word)]


def _is_count(word: str) -> bool:
    return word.isdecimal() and len(word) <= 2 and int(word) >= 2


def _are_two(words: Words, first: Being, second: Being) -> bool:
    """Whether these are two, and not one with two names: `a puppy dog`, `a woman, a queen`."""
    if second.at == first.at + 1:
        return False
    if first.is_animal != second.is_animal or (first.kind and second.kind and first.kind != second.kind):
        return True
    between = words.between(first.at, second.at)
    return len(between) <= JOINED_WITHIN and not JOINING.isdisjoint(between)
