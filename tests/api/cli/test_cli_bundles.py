"""`darkroom export` and `darkroom import` on databases and object stores that the settings name."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from api.cli import status_of
from api.cli.local import bundles
from tests.databases import Databases
from tests.services.places import Place, opened
from tests.spec import recipe

Run = Callable[..., int]


@pytest.fixture
def places(databases: Databases, tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    """Two installations."""
    with ExitStack() as stack:
        made = []
        for name in ("here", "there"):
            (tmp_path / name).mkdir()
            made.append(stack.enter_context(opened(stack.enter_context(databases.migrated()), tmp_path / name)))
        yield made[0], made[1]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command at a place; its exit status."""

    def run(place: Place, *arguments: object) -> int:
        monkeypatch.setenv("DARKROOM_POSTGRES_DSN", place.dsn)
        monkeypatch.setenv("DARKROOM_BLOBS_URL", place.folder.as_uri())
        return status_of([str(argument) for argument in arguments])

    return run


def test_a_job_goes_from_one_place_to_another(
    places: tuple[Place, Place], run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = places
    job_id = here.finished(2)
    file = tmp_path / "job.zip"
    assert run(here, "export", job_id, file) == 0
    printed = capsys.readouterr()
    assert "2 assets had no thumbnail yet" in printed.err
    exported = printed.out
    assert exported.startswith(f"exported job {job_id} to {file}: 7 events, 1 job, 2 files of ")
    checksum = exported.rpartition("checksum ")[2].strip()
    assert run(there, "import", file) == 0
    imported = capsys.readouterr()
    assert imported.out.startswith(f"imported job {job_id}: 7 events, 1 job, 2 files of ")
    assert imported.out.endswith(f"checksum {checksum}; head at position 7\n")
    assert imported.err == ""
    assert there.rows() == here.rows()
    assert run(there, "import", file) == 0
    assert capsys.readouterr().out.startswith(f"already here, nothing changed: job {job_id}, 7 events")
    assert run(there, "verify") in {0, 1}  # the views have no projector here
    assert "ledger: fits; 7 events in 1 commits" in capsys.readouterr().out


def test_everything_and_what_it_leaves_out(
    places: tuple[Place, Place], run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = places
    here.finished()
    here.submit(recipe(1))
    file = tmp_path / "all.zip"
    assert run(here, "export", "--all", file) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("exported everything to")
    assert "left out 1 job and 0 batches" in printed.err
    assert run(here, "export", "--all", "--unfinished", "--force", file) == 0
    assert "1 job had not ended, to go on where" in capsys.readouterr().err
    assert run(there, "import", file) == 0
    assert "there they must not run any more" in capsys.readouterr().err
    assert there.rows() == here.rows()


def test_a_program_reads_the_same(
    places: tuple[Place, Place], run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = places
    job_id = here.finished()
    file = tmp_path / "job.zip"
    assert run(here, "export", job_id, file, "--json") == 0
    exported = json.loads(capsys.readouterr().out)
    assert (exported["id"], exported["file"], exported["jobs"]) == (str(job_id), str(file), 1)
    assert run(there, "import", file, "--json") == 0
    imported = json.loads(capsys.readouterr().out)
    assert (imported["checksum"], imported["appended"]) == (exported["checksum"], exported["events"])
    assert imported["manifest"]["checksum"] == exported["checksum"]


def test_what_does_not_work_is_one_sentence(
    places: tuple[Place, Place], run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, _ = places
    running = here.submit(recipe(1))
    nobody = uuid4()
    file = tmp_path / "x.zip"
    taken = tmp_path / "taken.zip"
    taken.write_bytes(b"mine")
    for status, arguments, sentence in (
        (1, ("export", running, file), f"Job {running}, which belongs to the bundle, has not ended"),
        (1, ("export", nobody, file), f"There is no job and no batch {nobody}"),
        (1, ("export", "--all", taken), "exists; name another file, or --force"),
        (1, ("import", taken), "not a bundle of Darkroom"),
        (1, ("import", file), "cannot be read: No such file or directory"),
        (2, ("export", "--all", running, file), "--all and a file"),
        (2, ("export", file), "a job or a batch and a file"),
        (2, ("export", "fox", file), "'fox' is not the id of a job or a batch"),
        (2, ("export", running, file, "--unfinished"), "--unfinished goes with --all"),
    ):
        assert run(here, *arguments) == status
        printed = capsys.readouterr()
        assert printed.out == ""
        assert sentence in printed.err
        assert printed.err.count("\n") == 1
    assert not file.exists()


def test_whoever_waits_hears_how_far_it_is(
    places: tuple[Place, Place],
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here, there = places
    here.finished()
    monkeypatch.setattr(bundles, "TELL_S", 0.0)
    assert run(here, "export", "--all", tmp_path / "all.zip") == 0
    assert "darkroom: 7 of 7 events written\n" in capsys.readouterr().err
    assert run(there, "import", tmp_path / "all.zip") == 0
    said = capsys.readouterr().err
    assert "darkroom: 7 of 7 events appended\ndarkroom: 1 of 2 files read again\n" in said
    assert run(there, "import", tmp_path / "all.zip", "--json") == 0
    assert capsys.readouterr().err == ""


def test_a_database_without_the_schema_says_what_to_run(
    places: tuple[Place, Place],
    run: Run,
    empty_dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here, _ = places
    here.finished()
    file = tmp_path / "all.zip"
    assert run(here, "export", "--all", file) == 0
    monkeypatch.setenv("DARKROOM_POSTGRES_DSN", empty_dsn)
    for arguments in (["import", str(file)], ["export", "--all", str(tmp_path / "no.zip")]):
        assert status_of(arguments) == 1
        assert "darkroom migrate" in capsys.readouterr().err
