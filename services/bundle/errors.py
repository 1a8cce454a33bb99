"""Why a bundle was not written or not taken in. Either way everything is as it was before.

BundleRefused
├── NothingToExport          the id is neither a job nor a batch
├── JobUnfinished            a job that still runs would be run by both installations, and counted twice
├── FileLost                 a file that the ledger names is missing or damaged in the object store
├── FileExists               what is exported would replace a file
├── FileUnusable             a file of this machine cannot be read or written
├── LedgerUnfit              events of this ledger are not what a bundle may hold; carries which
├── BundleDamaged            the file is not as it was written, or was never a bundle
├── BundleTooNew             only a later Darkroom reads it
└── BundleConflict           what is here already has another history under the same ids
"""

from uuid import UUID


class BundleRefused(Exception):
    """`code` is stable; `str()` is a sentence a person can act on."""

    code = "bundle_refused"


class NothingToExport(BundleRefused):
    """Only jobs and batches have a bundle of their own."""

    code = "nothing_to_export"

    def __init__(self, identifier: UUID) -> None:
        super().__init__(f"There is no job and no batch {identifier}; `darkroom jobs` lists the jobs.")


class JobUnfinished(BundleRefused):
    """Export it once it has ended, or cancel it first."""

    code = "job_unfinished"

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        super().__init__(
            f"Job {job_id}, which belongs to the bundle, has not ended, and in two installations it would run twice: "
            "wait for its end, or cancel it."
        )


class FileLost(BundleRefused):
    """The object store does not have what the ledger says."""

    code = "file_lost"


class FileExists(BundleRefused):
    """Nothing is replaced unasked."""

    code = "file_exists"


class FileUnusable(BundleRefused):
    """The operating system says why."""

    code = "file_unusable"


class LedgerUnfit(BundleRefused):
    """No whole and valid bundle can be made of these events."""

    code = "ledger_unfit"


class BundleDamaged(BundleRefused):
    """Nothing of it was used. Copy or export it again."""

    code = "bundle_damaged"


class BundleTooNew(BundleRefused):
    """It holds what this version does not know."""

    code = "bundle_too_new"


class BundleConflict(BundleRefused):
    """`stream_id` and `version` say where the histories part, `path` which file differs."""

    code = "bundle_conflict"

    def __init__(
        self, sentence: str, *, stream_id: UUID | None = None, version: int | None = None, path: str | None = None
    ) -> None:
        self.stream_id = stream_id
        self.version = version
        self.path = path
        super().__init__(sentence)
