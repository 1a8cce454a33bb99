"""What a job may start from: files of its owner that exist, named by what they are; and every problem at once."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from api.jobs.sources import Source, resolve
from domain.aggregates.media import media_id
from domain.commands import TrashAsset, UploadMedia
from domain.errors import FieldProblem, InvalidInput
from domain.events import MediaKind
from domain.recipes.recipe import InputFile, Kind, asset_id
from services.ledger import ASSET, JOB, MEDIA, Context, Ledger
from tests import spec
from tests.spec import JOB_ID, NOW, OWNER

SHA256 = "ab" * 32
SOME_ID = UUID("0b9a4f0e-7f0c-4c55-9a39-0d2f4f6f6a51")
TYPES: dict[MediaKind, str] = {"image": "image/png", "video": "video/mp4", "audio": "audio/wav"}


def uploaded(ledger: Ledger, kind: MediaKind = "image", owner: str = OWNER, sha256: str = SHA256) -> str:
    """The source of an upload."""
    identifier = media_id(owner, sha256)
    ledger.execute(MEDIA, identifier, UploadMedia(owner, kind, TYPES[kind], 9, sha256, NOW), Context(owner, owner))
    return f"media:{identifier}"


def generated(ledger: Ledger, kind: Kind = Kind.IMAGE) -> list[str]:
    """The sources of two assets: the first completed, the second still owed."""
    ledger.execute(JOB, JOB_ID, replace(spec.submit(2), kind=kind), Context(OWNER, OWNER))
    for command in (spec.start(1), spec.report_completed(0, kind=kind)):
        ledger.execute(JOB, JOB_ID, command, Context("gpu-1"))
    return [f"asset:{asset_id(JOB_ID, index)}" for index in range(2)]


def problems(ledger: Ledger, *sources: Source, owner: str = OWNER) -> list[FieldProblem]:
    """What is wrong with these."""
    with pytest.raises(InvalidInput) as caught:
        resolve(sources, owner, ledger)
    return list(caught.value.problems)


def test_uploads_and_completed_assets_become_files_by_their_sources(memory_ledger: Ledger) -> None:
    media, (asset, _) = uploaded(memory_ledger), generated(memory_ledger)
    found = resolve(
        [
            ("references.0.source", media, ("image",)),
            ("references.1.source", asset, ("image",)),
            ("media.image", media, ("image", "video")),
        ],
        OWNER,
        memory_ledger,
    )
    path = f"uploads/{OWNER}/{SHA256}.png"
    assert found == {
        media: InputFile(kind="image", media_type="image/png", sha256=SHA256, path=path),
        asset: InputFile(
            kind="image",
            media_type="image/png",
            sha256="00" * 32,
            path=f"sdxl_image_fast/{OWNER}/{JOB_ID}_0.png",
            width=256,
            height=256,
        ),
    }
    assert resolve([], OWNER, memory_ledger) == {}


@pytest.mark.parametrize(
    "source",
    [
        "fog.png",
        "/etc/passwd",
        "../uploads/bob/fog.png",
        "file:///etc/passwd",
        "http://127.0.0.1:9/fog.png",
        "data:image/png;base64,AAAA",
        str(SOME_ID),
        f"job:{SOME_ID}",
        f"media:{SOME_ID}/../x",
        f" media:{SOME_ID}",
        f"media:{SOME_ID.hex}",
        "media:",
        "",
        None,
        7,
        {"id": "x"},
    ],
    ids=str,
)
def test_paths_urls_and_bare_ids_are_refused_unread(source: object) -> None:
    class Unasked(Ledger):
        def __init__(self) -> None:
            pass

    [problem] = problems(Unasked(), ("media.image", source, ("image",)))
    assert problem.path == "media.image"
    assert "`media:ID`" in problem.detail
    assert "`asset:ID`" in problem.detail
    assert "not taken" in problem.detail


def test_somebody_elses_file_reads_as_one_that_never_was(memory_ledger: Ledger) -> None:
    media, (asset, _) = uploaded(memory_ledger), generated(memory_ledger)
    for kind, foreign in (
        ("media", media),
        ("asset", asset),
        ("media", f"media:{asset[6:]}"),
        ("asset", f"asset:{JOB_ID}"),
    ):
        unknown = f"{kind}:{uuid4()}"
        [one] = problems(memory_ledger, ("media.image", foreign, ("image",)), owner="bob")
        [other] = problems(memory_ledger, ("media.image", unknown, ("image",)), owner="bob")
        assert one.detail.replace(foreign, "ID") == other.detail.replace(unknown, "ID")


def test_an_asset_without_a_file_yet_says_so(memory_ledger: Ledger) -> None:
    _, owed = generated(memory_ledger)
    [problem] = problems(memory_ledger, ("media.image", owed, ("image",)))
    assert problem.detail.endswith("is reserved")
    assert "completed asset" in problem.detail


def test_a_completed_asset_can_be_used_whatever_its_owner_makes_of_it(memory_ledger: Ledger) -> None:
    asset, _ = generated(memory_ledger)
    memory_ledger.execute(ASSET, asset_id(JOB_ID, 0), TrashAsset(NOW), Context(OWNER, OWNER))
    assert set(resolve([("media.image", asset, ("image",))], OWNER, memory_ledger)) == {asset}


@pytest.mark.parametrize(
    ("kind", "allowed", "words"),
    [
        ("video", ("image",), "must be an image, and {} is a video"),
        ("audio", ("image", "video"), "must be an image or a video, and {} is a sound"),
        ("image", ("video",), "must be a video, and {} is an image"),
    ],
)
def test_a_file_of_the_wrong_kind_says_which_is_wanted(
    memory_ledger: Ledger, kind: MediaKind, allowed: Sequence[MediaKind], words: str
) -> None:
    source = uploaded(memory_ledger, kind)
    [problem] = problems(memory_ledger, ("references.0.source", source, allowed))
    assert problem == FieldProblem("references.0.source", words.format(source))


def test_a_video_that_was_generated_is_a_video(memory_ledger: Ledger) -> None:
    asset, _ = generated(memory_ledger, Kind.VIDEO)
    assert resolve([("media.video", asset, ("video",))], OWNER, memory_ledger)[asset].kind == "video"
    assert len(problems(memory_ledger, ("media.image", asset, ("image",)))) == 1


def test_every_problem_is_reported_at_once(memory_ledger: Ledger) -> None:
    good, clip = uploaded(memory_ledger), uploaded(memory_ledger, "video", sha256="cd" * 32)
    found = problems(
        memory_ledger,
        ("references.0.source", good, ("image",)),
        ("references.1.source", "fog.png", ("image",)),
        ("references.2.source", clip, ("image",)),
        ("media.image", f"media:{uuid4()}", ("image",)),
        ("media.video", clip, ("video",)),
        ("media.audio", clip, ("audio",)),
    )
    assert [one.path for one in found] == ["references.1.source", "references.2.source", "media.image", "media.audio"]


def test_a_file_that_several_fields_name_is_read_once(memory_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    source = uploaded(memory_ledger)
    read, media = [], memory_ledger.media

    def counted(*arguments: object, **named: object) -> object:
        read.append(arguments)
        return media(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(memory_ledger, "media", counted)
    resolve([(f"references.{index}.source", source, ("image",)) for index in range(5)], OWNER, memory_ledger)
    assert len(read) == 1
