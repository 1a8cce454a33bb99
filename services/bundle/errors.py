"""Why a bundle was not exported or not imported. In both cases nothing was changed.

BundleRefused
├── NothingToExport          the id is neither a job nor a batch
├── JobUnfinished            a running job would run in both installations and count twice
├── FileLost                 a file that the ledger names is missing or damaged in the object store
├── FileExists               the export would replace a file
├── FileUnusable             a local file cannot be read or written
├── LedgerUnfit              events of this ledger are not valid in a bundle; carries which
├── BundleDamaged            the file was changed after the export, or is not a bundle
├── BundleTooNew             only a later Darkroom can read it
└── BundleConflict           this installation has another history under the same ids
"""

from uuid import UUID


class BundleRefused(Exception):
    """`code` is stable; `str()` is a sentence a person can act on."""

    code = "bundle_refused"


class NothingToExport(BundleRefused):
    """Only jobs and batches can be exported alone."""

    code = "nothing_to_export"

    def __init__(self, identifier: UUID) -> None:
        super().__init__(f"There is no job and no batch {identifier}; `darkroom jobs` lists the jobs.")


class JobUnfinished(BundleRefused):
    """Export it after it has ended, or cancel it first."""

    code = "job_unfinished"

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        super().__init__(
            f"Job {job_id}, which belongs to the bundle, has not ended, and in two installations it would run twice: "
            "wait for its end, or cancel it."
        )


class FileLost(BundleRefused):
    """The object store does not have the file that the ledger names."""

    code = "file_lost"


class FileExists(BundleRefused):
    """Files are replaced only on request."""

    code = "file_exists"


class FileUnusable(BundleRefused):
    """The operating system's message says why."""

    code = "file_unusable"


class LedgerUnfit(BundleRefused):
    """No complete and valid bundle can be made of these events."""

    code = "ledger_unfit"


class BundleDamaged(BundleRefused):
    """Nothing in it was used. Copy or export it again."""

    code = "bundle_damaged"


class BundleTooNew(BundleRefused):
    """It contains something that this version does not know."""

    code = "bundle_too_new"


class BundleConflict(BundleRefused):
    """`stream_id` and `version` say where the histories differ, `path` says which file differs."""

    code = "bundle_conflict"

    def __init__(
        self, sentence: str, *, stream_id: UUID | None = None, version: int | None = None, path: str | None = None
    ) -> None:
        self.stream_id = stream_id
        self.version = version
        self.path = path
        super().__init__(sentence)
