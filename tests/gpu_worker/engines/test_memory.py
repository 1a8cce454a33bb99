"""The memory profiles: their order, what is remembered of them, and that every recovery has an end."""

from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.engines.memory import Experience, Offload, Profile


def names(images: int, *, can_offload: bool) -> list[str]:
    """The ladder from all images in one call to the end."""
    profile: Profile | None = Profile(images)
    ladder = []
    while profile is not None:
        ladder.append(profile.name)
        profile = profile.lower(can_offload=can_offload)
    return ladder


def test_the_order_on_a_gpu() -> None:
    assert names(6, can_offload=True) == [
        "6 images a call",
        "3 images a call",
        "1 image a call",
        "1 image a call, VAE in tiles",
        "1 image a call, VAE in tiles, models offloaded",
        "1 image a call, VAE in tiles, layers offloaded",
    ]


def test_without_a_gpu_nothing_is_offloaded() -> None:
    assert names(2, can_offload=False) == ["2 images a call", "1 image a call", "1 image a call, VAE in tiles"]


def test_nothing_is_known_before_memory_ran_out() -> None:
    assert Experience(can_offload=True).profile(6, 1 << 20) == Profile(6)


def test_half_the_size_fits_twice_as_often() -> None:
    learned = Experience(can_offload=False).lowered(Profile(4), 1000)
    assert learned is not None
    assert learned.profile(4, 1000) == Profile(2)
    assert learned.profile(8, 500) == Profile(4)
    assert learned.profile(1, 1000) == Profile(1)
    assert learned.profile(3, 9000) == Profile(1)


def test_what_one_size_needs_larger_ones_need_and_smaller_ones_do_not() -> None:
    experience: Experience | None = Experience(can_offload=True)
    for failed in (Profile(1), Profile(1, tiled=True), Profile(1, tiled=True, offload=Offload.MODELS)):
        assert experience is not None
        experience = experience.lowered(failed, 1000)
    assert experience is not None
    lowest = Profile(1, tiled=True, offload=Offload.LAYERS)
    assert experience.profile(2, 1000) == experience.profile(2, 2000) == lowest
    assert experience.profile(2, 500) == Profile(2)
    assert experience.lowered(lowest, 1000) is None


@given(
    images=st.integers(1, 64),
    others=st.lists(st.tuples(st.integers(1, 64), st.integers(1, 10_000))),
    can_offload=st.booleans(),
)
def test_every_recovery_gets_smaller_and_ends(images: int, others: list[tuple[int, int]], can_offload: bool) -> None:
    """Whatever was learned before, with other sizes: at most a halving for each bit, tiles and two ways to offload."""
    experience = Experience(can_offload=can_offload)
    for waiting, pixels in others:
        experience = experience.lowered(experience.profile(waiting, pixels), pixels) or experience
    profile, lowered = experience.profile(images, 1000), 0
    while (learned := experience.lowered(profile, 1000)) is not None:
        experience, before = learned, profile
        profile, lowered = experience.profile(images, 1000), lowered + 1
        assert (-profile.images_per_call, profile.tiled, profile.offload) > (
            -before.images_per_call,
            before.tiled,
            before.offload,
        )
        assert profile.images_per_call <= before.images_per_call
    assert lowered <= 6 + 1 + 2
    assert profile.images_per_call == 1
    assert profile.tiled
    assert profile.offload == (Offload.LAYERS if can_offload else Offload.NOTHING)
