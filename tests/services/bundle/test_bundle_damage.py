"""A bundle is taken in as it was written, or not at all: whatever was changed in it, by chance or on purpose."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.bundle.errors import BundleDamaged, BundleTooNew, FileUnusable
from services.bundle.layout import EVENTS, FILES, MANIFEST, SEAL_BYTES, seal
from tests.databases import Databases
from tests.services.places import Place, opened

Entries = dict[str, bytes]


@pytest.fixture(scope="module")
def written(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a job that starts from an upload; nobody changes it."""
    folder = tmp_path_factory.mktemp("written")
    (folder / "here").mkdir()
    with databases.migrated() as dsn, opened(dsn, folder / "here") as here:
        photo = here.upload()
        job_id = here.finish(here.submit(here.from_upload(photo), uploads=[photo]))
        here.thumbnail(job_id, 0)
        here.export(job_id, folder / "bundle.zip")
    return folder / "bundle.zip"


@pytest.fixture
def there(databases: Databases, tmp_path: Path) -> Iterator[Place]:
    """Where it shall not arrive."""
    (tmp_path / "there").mkdir()
    with databases.migrated() as dsn, opened(dsn, tmp_path / "there") as place:
        yield place


def require_refused(there: Place, content: bytes, why: str = "The bundle is damaged|not a bundle of Darkroom") -> None:
    """Nothing of it arrives."""
    file = there.folder.with_name("changed.zip")
    file.write_bytes(content)
    with pytest.raises(BundleDamaged, match=why):
        there.take_in(file)
    assert there.rows() == []
    assert there.files() == {}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_a_changed_byte_is_found_wherever_it_is(written: Path, there: Place, where: float, mask: int) -> None:
    content = bytearray(written.read_bytes())
    content[int(where * len(content))] ^= mask
    require_refused(there, bytes(content))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_bundle_that_is_cut_off_is_refused(written: Path, there: Place, share: float) -> None:
    content = written.read_bytes()
    require_refused(there, content[: int(share * len(content))])


def test_what_was_never_a_bundle_is_refused(there: Place, tmp_path: Path) -> None:
    require_refused(there, b"PK? no", "not a bundle of Darkroom")
    require_refused(there, packed({"readme.txt": b"hello"}), "readme.txt")
    require_refused(there, packed({MANIFEST: b"{}"}), "it has no events.jsonl")
    with pytest.raises(FileUnusable, match="No such file"):
        there.take_in(tmp_path / "nowhere.zip")
    with pytest.raises(FileUnusable, match="directory"):
        there.take_in(tmp_path)


# What somebody changed on purpose has a fresh seal.


def unpacked(file: Path) -> Entries:
    """Every entry."""
    with ZipFile(file) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def packed(entries: Entries, *, method: int = ZIP_STORED) -> bytes:
    """A sealed bundle of these; `method` is that of the files."""
    file = io.BytesIO()
    with ZipFile(file, "w") as zipped:
        for name, content in entries.items():
            zipped.writestr(ZipInfo(name), content, method if name.startswith(FILES) else ZIP_DEFLATED)
        zipped.comment = bytes(SEAL_BYTES)
    seal(file)
    return file.getvalue()


def with_events(entries: Entries, change: Callable[[list[dict[str, Any]]], object]) -> Entries:
    """The same with the lines of its events changed."""
    lines = [json.loads(line) for line in entries[EVENTS].splitlines()]
    change(lines)
    return {**entries, EVENTS: b"".join(json.dumps(line).encode() + b"\n" for line in lines)}


def with_data(topic: str, **data: Any) -> Callable[[list[dict[str, Any]]], None]:
    """Changes what the event says."""

    def change(lines: list[dict[str, Any]]) -> None:
        line = next(line for line in lines if line["topic"] == topic)
        state = json.loads(line["state"])
        state["data"].update(data)
        line["state"] = json.dumps(state)

    return change


def without(topic: str) -> Callable[[list[dict[str, Any]]], None]:
    """Takes the stream away that begins with this event."""

    def change(lines: list[dict[str, Any]]) -> None:
        stream = next(line["stream"] for line in lines if line["topic"] == topic)
        lines[:] = [line for line in lines if line["stream"] != stream]
        commits = {commit: number for number, commit in enumerate(sorted({line["commit"] for line in lines}), start=1)}
        for line in lines:
            line["commit"] = commits[line["commit"]]

    return change


def test_unchanged_and_packed_again_it_is_taken(written: Path, there: Place, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    again.write_bytes(packed(with_events(unpacked(written), lambda lines: None)))
    assert there.take_in(again).appended == len(there.rows()) > 0


OUTSIDE = ["../../etc/passwd", "/etc/passwd", "uploads/eve/../../x.png", "sdxl_image_fast/bob/x_0.png", "C:\\x.png"]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("topic", ["asset.reserved.v1", "media.uploaded.v1", "asset.thumbnailed.v1"])
def test_a_file_has_no_other_place_than_the_rules_give_it(written: Path, there: Place, topic: str, path: str) -> None:
    require_refused(there, packed(with_events(unpacked(written), with_data(topic, path=path))), "The event in line")


@pytest.mark.parametrize("owner", ["..", "a/b", "", "Eve", "a.b", "*"])
def test_an_owner_is_a_name_that_a_folder_can_have(written: Path, there: Place, owner: str) -> None:
    def change(lines: list[dict[str, Any]]) -> None:
        for line in lines:
            state = json.loads(line["state"])
            state["meta"]["owner"] = owner
            line["state"] = json.dumps(state)

    require_refused(there, packed(with_events(unpacked(written), change)), "belongs to nobody")


def test_a_bucket_is_one_folder(written: Path, there: Place) -> None:
    changed = with_events(unpacked(written), with_data("asset.reserved.v1", bucket="..", path="../ada/x_0.png"))
    require_refused(there, packed(changed), "outside the buckets")


@pytest.mark.parametrize("name", ["../evil", "files/../evil", "files/" + "a" * 63, "/abs", "files/" + "A" * 64])
def test_no_other_name_is_read(written: Path, there: Place, name: str) -> None:
    require_refused(there, packed({**unpacked(written), name: b"x"}), "which has no place in one")


def test_a_file_that_no_event_names_is_refused(written: Path, there: Place) -> None:
    name = FILES + hashlib.sha256(b"beyond").hexdigest()
    require_refused(there, packed({**unpacked(written), name: b"beyond"}), "no event names")


def test_a_file_with_another_content_is_refused(written: Path, there: Place) -> None:
    entries = unpacked(written)
    name = next(name for name in entries if name.startswith(FILES))
    require_refused(there, packed({**entries, name: b"#" * len(entries[name])}), "another content than its name says")
    require_refused(there, packed({**entries, name: b"#"}), "not of")
    del entries[name]
    require_refused(there, packed(entries), "is not in the bundle")


def test_files_that_are_packed_are_not_unpacked(written: Path, there: Place) -> None:
    entries = unpacked(written)
    name = next(name for name in entries if name.startswith(FILES))
    require_refused(there, packed({**entries, name: bytes(10_000_000)}, method=ZIP_DEFLATED), "stored as they are")


def test_events_that_unpack_to_more_than_they_may_are_not_read_to_their_end(written: Path, there: Place) -> None:
    entries = unpacked(written)
    require_refused(there, packed({**entries, EVENTS: bytes(100_000_000)}), "Line 1 of .* is no event")
    fewer = {**json.loads(entries[MANIFEST]), "events": 3}
    require_refused(there, packed({**entries, MANIFEST: json.dumps(fewer).encode()}), "more than the 3 events")
    require_refused(there, packed({**entries, MANIFEST: b" " * 100_000}), "larger than")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda lines: lines.pop(), "a file that no event names"),
        (lambda lines: lines[-1].update(commit=lines[-1]["commit"] - 1), "count "),
        (lambda lines: lines.reverse(), "does not count its commit on"),
        (lambda lines: lines.append(dict(lines[-1])), "more than the 8 events"),
        (lambda lines: lines[-1].update(version=1), "does not follow version"),
        (lambda lines: lines[-1].update(commit=99), "does not count its commit on"),
        (lambda lines: lines[0].update(version=2), "does not follow version 0"),
        (lambda lines: lines[0].update(stream=str(uuid4())), "is no upload of its owner"),
        (lambda lines: lines[-1].update(stream=str(uuid4()), version=1), "does not begin a stream"),
        (lambda lines: lines[0].pop("topic"), "is no event"),
        (lambda lines: lines[0].update(state="{}"), "cannot be read: KeyError"),
        (with_data("asset.completed.v1", bytes=-1), "cannot be read: ValidationError"),
        (with_data("asset.completed.v1", render_ms=7), "checksum"),
        (with_data("media.uploaded.v1", owner="eve"), "two owners"),
        (without("media.uploaded.v1"), "starts from media:"),
        (without("job.queued.v1"), "of no job among them"),
        (without("asset.reserved.v1"), "queue 1 outputs and reserve 0"),
    ],
)
def test_events_that_are_not_whole_are_refused(
    written: Path, there: Place, change: Callable[[list[dict[str, Any]]], object], why: str
) -> None:
    entries = unpacked(written)
    require_refused(there, packed(with_events(entries, change)), why)


def test_what_only_a_later_darkroom_reads_names_it(written: Path, there: Place, tmp_path: Path) -> None:
    entries = unpacked(written)
    said = json.loads(entries[MANIFEST])
    newer = {**said, "version": 2, "darkroom": "3.1.0"}
    unknown = with_events(entries, lambda lines: lines[-1].update(topic="asset.sung.v1"))
    for changed in ({**entries, MANIFEST: json.dumps(newer).encode()}, unknown):
        file = tmp_path / "newer.zip"
        file.write_bytes(packed(changed))
        with pytest.raises(BundleTooNew, match=r"import it with Darkroom (3\.1\.0|0\.1\.0) or later"):
            there.take_in(file)
    assert there.rows() == []


def test_a_manifest_that_says_something_else_is_refused(written: Path, there: Place) -> None:
    entries = unpacked(written)
    said = json.loads(entries[MANIFEST])
    for change, why in (
        ({"events": 100}, "count "),
        ({"checksum": "0" * 64}, "checksum"),
        ({"bytes": 1}, "checksum"),
        ({"format": "tar"}, "not valid: format"),
        ({"checksum": "no"}, "not valid: checksum"),
    ):
        require_refused(there, packed({**entries, MANIFEST: json.dumps({**said, **change}).encode()}), why)
    require_refused(there, packed({**entries, MANIFEST: b"{"}), "cannot be read")


def test_the_same_asset_is_not_made_twice(written: Path, there: Place) -> None:
    def change(lines: list[dict[str, Any]]) -> None:
        completed = next(line for line in lines if line["topic"] == "asset.completed.v1")
        last = next(line for line in reversed(lines) if line["stream"] == completed["stream"])
        last.update(topic=completed["topic"], state=completed["state"])

    require_refused(there, packed(with_events(unpacked(written), change)), "ends an asset for the second time")


def test_an_asset_belongs_to_its_job_by_its_id(written: Path, there: Place) -> None:
    def change(lines: list[dict[str, Any]]) -> None:
        reserved = next(line["stream"] for line in lines if line["topic"] == "asset.reserved.v1")
        other = str(uuid4())
        for line in lines:
            line["stream"] = other if line["stream"] == reserved else line["stream"]

    require_refused(there, packed(with_events(unpacked(written), change)), "of no job among them")
