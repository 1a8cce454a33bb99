"""The invariants of jobs and assets, under any commands in any order, zombies among the workers included.

The machine keeps a small ledger: every stream as its events with their versions. It throws commands at the deciders as
real services could send them, late, twice or out of order, and checks after each that the invariants hold.
"""

from datetime import datetime, timedelta
from functools import reduce
from typing import get_args
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from domain.aggregates import asset as assets
from domain.aggregates import generation as generations
from domain.aggregates import job as jobs
from domain.aggregates.asset import Asset, Completed, Purged, UnknownAsset
from domain.aggregates.generation import Decision, Generation
from domain.aggregates.job import Finished, Job, NotSubmitted, Running, Waiting
from domain.commands import (
    AbortJob,
    AssetCommand,
    CancelJob,
    ChangeTags,
    ConfirmCancel,
    DismissAsset,
    ExpireLease,
    FailAttempt,
    JobCommand,
    NoteOfAttempt,
    PurgeAsset,
    RateAsset,
    ReleaseAttempt,
    ReportAssetCompleted,
    ReportAssetFailed,
    ReprioritizeJob,
    RestoreAsset,
    SaveAsset,
    StartAttempt,
    SubmitJob,
    TagAsset,
    ThumbnailAsset,
    TitleAsset,
    TrashAsset,
    UnsaveAsset,
)
from domain.errors import Refused
from domain.events import (
    AssetCompleted,
    AssetEnding,
    AssetEvent,
    AssetPurged,
    AssetReserved,
    AssetThumbnailed,
    ErrorClass,
    Failure,
    JobAborted,
    JobCanceled,
    JobCancelRequested,
    JobEnding,
    JobEvent,
    JobFailed,
    JobHandedOver,
    JobNote,
    JobPartiallySucceeded,
    JobPromptEnhanced,
    JobQueued,
    JobReprioritized,
    JobRequeued,
    JobStarted,
    JobSucceeded,
    JobWarned,
    RequeueReason,
)
from domain.policies.retry import FAILURES_MAX, WORKERS_LOST_MAX
from domain.recipes.recipe import asset_id
from tests.spec import DEADLINE, NOW, TRANSIENT, file_of, submit, thumbnail_of

JOBS_MAX = 5
WORKERS = st.sampled_from(["gpu-1", "gpu-2"])
ATTEMPTS_BACK = st.sampled_from([0, 0, 0, 0, 1, 1, 2, -1, -2])
"""How far a report lags behind the current attempt: mostly not at all; sometimes a zombie's, or of the future."""

NOTES = get_args(JobNote)
INDEXES = st.sampled_from([*range(6)] * 3 + [6, -1])
"""Which asset: taken modulo the quantity, or, at the end of the list, none that the job has."""

ERRORS = st.builds(Failure, error_class=st.sampled_from(ErrorClass), message=st.sampled_from(["It broke.", "Again."]))
JITTER = st.floats(min_value=0, max_value=1, exclude_max=True)
TAGS = st.sampled_from([(), ("fog",), ("sea", "fog", "sea")])
ON_ASSETS: st.SearchStrategy[AssetCommand] = st.one_of(
    st.builds(ThumbnailAsset, thumbnailed=st.builds(thumbnail_of, st.integers(0, 2)), now=st.just(NOW)),
    st.builds(RateAsset, score=st.integers(1, 5), now=st.just(NOW)),
    st.builds(TitleAsset, title=st.sampled_from([None, "Fog", "Sea"]), now=st.just(NOW)),
    st.builds(TagAsset, tags=TAGS, now=st.just(NOW)),
    st.builds(ChangeTags, add=TAGS, remove=TAGS, now=st.just(NOW)),
    st.sampled_from([word(now=NOW) for word in (SaveAsset, UnsaveAsset, DismissAsset, TrashAsset, RestoreAsset)]),
    st.sampled_from([TrashAsset(now=NOW), PurgeAsset(now=NOW)]),
)


class Life(RuleBasedStateMachine):
    """Jobs and their assets, and all that can happen to them."""

    submitted: Bundle[UUID] = Bundle("submitted")

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.job_streams: dict[UUID, list[tuple[int, JobEvent]]] = {}
        self.asset_streams: dict[UUID, list[tuple[int, AssetEvent]]] = {}
        self.generations: dict[UUID, Generation] = {}  # the running fold
        self.submissions: dict[UUID, SubmitJob] = {}
        self.asked_to_stop: set[UUID] = set()

    # What services send.

    @initialize(target=submitted, quantity=st.sampled_from([1, 3, 6]), has_deadline=st.booleans())
    def submit_first(self, quantity: int, has_deadline: bool) -> UUID:
        return self._submit(quantity, DEADLINE if has_deadline else None)

    @precondition(lambda self: len(self.generations) < JOBS_MAX)
    @rule(target=submitted, quantity=st.sampled_from([1, 3, 6]), has_deadline=st.booleans())
    def submit(self, quantity: int, has_deadline: bool) -> UUID:
        return self._submit(quantity, DEADLINE if has_deadline else None)

    @rule(job_id=submitted, request_sha256=st.sampled_from(["cd" * 32, "ef" * 32, None]))
    def submit_again(self, job_id: UUID, request_sha256: str | None) -> None:
        quantity = self.submissions[job_id].recipe.quantity
        assert not self._decided(submit(quantity, request_sha256=request_sha256), self.generations[job_id])

    @rule(seconds=st.integers(0, 90))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(job_id=submitted, worker=WORKERS)
    def start_next(self, job_id: UUID, worker: str) -> None:
        job = self.generations[job_id].job
        if isinstance(job, Waiting) and job.not_before is not None:
            self.now = max(self.now, job.not_before)
        self._do(job_id, StartAttempt(attempt=jobs.attempt_of(job) + 1, worker=worker, now=self.now))
        overdue = isinstance(job, Waiting) and jobs.past_deadline(job, self.now)
        assert isinstance(self.generations[job_id].job, Waiting if overdue else Running | Finished)

    @rule(job_id=submitted, back=ATTEMPTS_BACK, worker=WORKERS)
    def start_any(self, job_id: UUID, back: int, worker: str) -> None:
        self._do(job_id, StartAttempt(attempt=self._attempt(job_id, back), worker=worker, now=self.now))

    @rule(job_id=submitted, worker=WORKERS, outcomes=st.lists(st.booleans(), max_size=6))
    def work_honestly(self, job_id: UUID, worker: str, outcomes: list[bool]) -> None:
        if isinstance(self.generations[job_id].job, Waiting):
            self.start_next(job_id, worker)
        for index, succeeds in zip(generations.pending_indexes(self.generations[job_id]), outcomes, strict=False):
            if succeeds:
                self.report_completed(job_id, index, back=0)
            else:
                self.report_failed(job_id, index, back=0, error=TRANSIENT)

    @rule(job_id=submitted, index=INDEXES, back=ATTEMPTS_BACK, provider_id=st.sampled_from(["p1", "p2"]))
    def hand_over(self, job_id: UUID, index: int, back: int, provider_id: str) -> None:
        attempt = self._attempt(job_id, back)
        note = JobHandedOver(attempt=attempt, index=max(0, index), provider="fal", provider_id=provider_id)
        self._do(job_id, NoteOfAttempt(note=note, now=self.now))

    @rule(job_id=submitted, back=ATTEMPTS_BACK, enhanced=st.sampled_from(["finer", "finest"]))
    def enhance_prompt(self, job_id: UUID, back: int, enhanced: str) -> None:
        job = self.generations[job_id].job
        before = None if isinstance(job, NotSubmitted) else job.tries.enhanced_prompt
        note = JobPromptEnhanced(
            attempt=self._attempt(job_id, back), original="a fox", enhanced=enhanced, enhancer="rules 1"
        )
        self._do(job_id, NoteOfAttempt(note=note, now=self.now))
        after = self.generations[job_id].job
        assert isinstance(after, NotSubmitted) or before in {None, after.tries.enhanced_prompt}

    @rule(job_id=submitted, back=ATTEMPTS_BACK, word=st.sampled_from(["fog", "dusk"]))
    def warn(self, job_id: UUID, back: int, word: str) -> None:
        note = JobWarned(attempt=self._attempt(job_id, back), code="prompt_cut_off", detail=f"{word} is not read")
        self._do(job_id, NoteOfAttempt(note=note, now=self.now))
        job = self.generations[job_id].job
        notes = () if isinstance(job, NotSubmitted) else job.tries.notes
        said = [each.detail for each in notes if isinstance(each, JobWarned)]
        assert len(said) == len(set(said))

    @rule(job_id=submitted, index=INDEXES, back=ATTEMPTS_BACK)
    def report_completed(self, job_id: UUID, index: int, back: int) -> None:
        index = self._index(job_id, index)
        file = file_of(index, self._attempt(job_id, back))
        self._do(job_id, ReportAssetCompleted(index=index, completed=file, now=self.now))

    @rule(job_id=submitted, index=INDEXES, back=ATTEMPTS_BACK, error=ERRORS)
    def report_failed(self, job_id: UUID, index: int, back: int, error: Failure) -> None:
        index, attempt = self._index(job_id, index), self._attempt(job_id, back)
        self._do(job_id, ReportAssetFailed(attempt=attempt, index=index, error=error, now=self.now))

    @rule(job_id=submitted, back=ATTEMPTS_BACK, error=ERRORS, jitter=JITTER)
    def fail(self, job_id: UUID, back: int, error: Failure, jitter: float) -> None:
        attempt = self._attempt(job_id, back)
        self._do(job_id, FailAttempt(attempt=attempt, error=error, jitter=jitter, now=self.now))

    @rule(job_id=submitted, back=ATTEMPTS_BACK)
    def release(self, job_id: UUID, back: int) -> None:
        self._do(job_id, ReleaseAttempt(attempt=self._attempt(job_id, back), now=self.now))

    @rule(job_id=submitted, back=ATTEMPTS_BACK)
    def expire_lease(self, job_id: UUID, back: int) -> None:
        self._do(job_id, ExpireLease(attempt=self._attempt(job_id, back), now=self.now))

    @rule(job_id=submitted, back=ATTEMPTS_BACK)
    def confirm_cancel(self, job_id: UUID, back: int) -> None:
        self._do(job_id, ConfirmCancel(attempt=self._attempt(job_id, back), now=self.now))

    @rule(job_id=submitted)
    def cancel(self, job_id: UUID) -> None:
        self.asked_to_stop.add(job_id)
        self._do(job_id, CancelJob(now=self.now))

    @rule(job_id=submitted, priority=st.integers(-10, 10))
    def reprioritize(self, job_id: UUID, priority: int) -> None:
        self._do(job_id, ReprioritizeJob(priority=priority, now=self.now))

    @rule(job_id=submitted)
    def abort(self, job_id: UUID) -> None:
        self._do(job_id, AbortJob(now=self.now))

    @rule(job_id=submitted, index=INDEXES, command=ON_ASSETS)
    def change(self, job_id: UUID, index: int, command: AssetCommand) -> None:
        index = self._index(job_id, index)
        slots = self.generations[job_id].assets
        asset = slots[index] if 0 <= index < len(slots) else UnknownAsset()
        facts = self._changed(command, asset)
        assert not self._changed(command, reduce(assets.evolve, facts, asset)), "a repeat changed something"
        self._commit(job_id, Decision(assets={index: tuple(facts)} if facts else {}))

    # What must hold after every step.

    @invariant()
    def a_stream_has_at_most_one_ending(self) -> None:
        for job_id, job_stream in self.job_streams.items():
            endings = [event for _, event in job_stream if isinstance(event, JobEnding)]
            per_asset = [
                sum(isinstance(event, AssetEnding) for _, event in stream) for stream in self._assets_of(job_id)
            ]
            assert len(endings) <= 1
            assert all(count <= 1 for count in per_asset)
            # Once the job has ended each asset has its ending, and with the last of them the job has ended.
            assert (len(endings) == 1) == all(count == 1 for count in per_asset)

    @invariant()
    def asset_indexes_are_exactly_0_to_n_minus_1(self) -> None:
        for job_id, submission in self.submissions.items():
            firsts = [stream[0][1] for stream in self._assets_of(job_id)]
            reserved = [event for event in firsts if isinstance(event, AssetReserved)]
            assert [event.index for event in reserved] == list(range(submission.recipe.quantity))
            assert tuple(event.seed for event in reserved) == submission.recipe.seeds
        assert len(self.asset_streams) == sum(command.recipe.quantity for command in self.submissions.values())

    @invariant()
    def versions_are_contiguous(self) -> None:
        versions = [[version for version, _ in stream] for stream in self.job_streams.values()]
        versions += [[version for version, _ in stream] for stream in self.asset_streams.values()]
        assert all(of_one == list(range(1, len(of_one) + 1)) for of_one in versions)

    @invariant()
    def folding_from_scratch_gives_the_running_state(self) -> None:
        for job_id, generation in self.generations.items():
            nothing: Job = NotSubmitted()
            unknown: Asset = UnknownAsset()
            job = reduce(jobs.evolve, (event for _, event in self.job_streams[job_id]), nothing)
            slots = [
                reduce(assets.evolve, (event for _, event in stream), unknown) for stream in self._assets_of(job_id)
            ]
            assert Generation(job, tuple(slots)) == generation

    @invariant()
    def an_ending_tells_what_became_of_the_assets(self) -> None:
        for job_id, generation in self.generations.items():
            if not isinstance(generation.job, Finished):
                continue
            # What was purged was completed: what its owner does with it later changes no ending.
            words = [
                "completed" if isinstance(asset, Purged) else assets.status_of(asset) for asset in generation.assets
            ]
            counts = {word: words.count(word) for word in sorted(set(words))}
            match generation.job.ending:
                case JobSucceeded():
                    assert set(counts) == {"completed"}
                case JobPartiallySucceeded(completed=completed, failed=failed):
                    assert counts == {"completed": completed, "failed": failed}
                case JobFailed():
                    assert set(counts) == {"failed"}
                case JobCanceled():
                    assert "canceled" in counts
                    assert job_id in self.asked_to_stop
                case JobAborted():
                    assert set(counts) == {"canceled"}
                    assert jobs.attempt_of(generation.job) == 0

    @invariant()
    def nothing_but_curation_follows_an_ending(self) -> None:
        lifecycle = (AssetReserved, AssetEnding)
        for job_stream in self.job_streams.values():
            assert not any(isinstance(event, JobEnding) for _, event in job_stream[:-1])
            assert [isinstance(event, JobQueued) for _, event in job_stream] == [True] + [False] * (len(job_stream) - 1)
        for stream in self.asset_streams.values():
            assert not any(isinstance(event, lifecycle) for _, event in stream[2:])
            assert all(isinstance(event, lifecycle) for _, event in stream[:2])

    @invariant()
    def an_asset_has_at_most_one_thumbnail_and_only_once_it_is_completed(self) -> None:
        for stream in self.asset_streams.values():
            kinds = [type(event) for _, event in stream]
            assert kinds.count(AssetThumbnailed) <= 1
            assert AssetThumbnailed not in kinds or AssetCompleted in kinds[: kinds.index(AssetThumbnailed)]

    @invariant()
    def nothing_follows_a_purge(self) -> None:
        for stream in self.asset_streams.values():
            kinds = [type(event) for _, event in stream]
            assert AssetPurged not in kinds[:-1]
            assert AssetPurged not in kinds or AssetCompleted in kinds

    @invariant()
    def nothing_but_notes_and_the_end_follows_a_requested_cancel(self) -> None:
        for stream in self.job_streams.values():
            kinds = [type(event) for _, event in stream]
            if JobCancelRequested in kinds:
                after = [
                    kind
                    for kind in kinds[kinds.index(JobCancelRequested) + 1 :]
                    if kind not in (*NOTES, JobReprioritized)
                ]
                assert len(after) <= 1
                assert JobStarted not in after
                assert JobRequeued not in after

    @invariant()
    def attempts_count_up_from_one(self) -> None:
        for stream in self.job_streams.values():
            attempts = [event.attempt for _, event in stream if isinstance(event, JobStarted)]
            assert attempts == list(range(1, len(attempts) + 1))

    @invariant()
    def attempts_that_fail_are_bounded(self) -> None:
        for stream in self.job_streams.values():
            reasons = [event.reason for _, event in stream if isinstance(event, JobRequeued)]
            assert len(reasons) - reasons.count(RequeueReason.WORKER_STOPPING) < FAILURES_MAX
            assert reasons.count(RequeueReason.WORKER_LOST) < WORKERS_LOST_MAX

    @invariant()
    def an_asset_is_completed_by_an_attempt_that_started(self) -> None:
        for generation in self.generations.values():
            completed = [asset.completed for asset in generation.assets if isinstance(asset, Completed)]
            assert all(file.attempt <= jobs.attempt_of(generation.job) for file in completed)

    # How it is done.

    def _submit(self, quantity: int, deadline: datetime | None) -> UUID:
        job_id = UUID(int=len(self.generations) + 1)
        self.submissions[job_id] = submit(quantity, deadline=deadline, job_id=job_id)
        self.generations[job_id] = Generation()
        self._do(job_id, self.submissions[job_id])
        return job_id

    def _do(self, job_id: UUID, command: JobCommand) -> None:
        before = self.generations[job_id]
        decision = self._decided(command, before)
        assert not (decision and _is_of_another_attempt(command, before.job)), "a superseded attempt changed something"
        self._commit(job_id, decision)
        assert not self._decided(command, self.generations[job_id]), "a repeat changed something"

    def _decided(self, command: JobCommand, generation: Generation) -> Decision:
        try:
            return generations.decide(command, generation)
        except Refused:
            return Decision()

    def _changed(self, command: AssetCommand, asset: Asset) -> list[AssetEvent]:
        try:
            return assets.decide(command, asset)
        except Refused:
            return []

    def _commit(self, job_id: UUID, decision: Decision) -> None:
        self.generations[job_id] = generations.evolve(self.generations[job_id], decision)
        job_stream = self.job_streams.setdefault(job_id, [])
        job_stream.extend(enumerate(decision.job, start=len(job_stream) + 1))
        for index, events in decision.assets.items():
            stream = self.asset_streams.setdefault(asset_id(job_id, index), [])
            stream.extend(enumerate(events, start=len(stream) + 1))

    def _assets_of(self, job_id: UUID) -> list[list[tuple[int, AssetEvent]]]:
        quantity = self.submissions[job_id].recipe.quantity
        return [self.asset_streams[asset_id(job_id, index)] for index in range(quantity)]

    def _index(self, job_id: UUID, index: int) -> int:
        return index % self.submissions[job_id].recipe.quantity if index in range(6) else index

    def _attempt(self, job_id: UUID, back: int) -> int:
        return max(1, jobs.attempt_of(self.generations[job_id].job) - back)


def _is_of_another_attempt(command: JobCommand, job: Job) -> bool:
    if isinstance(command, SubmitJob | StartAttempt | CancelJob | ReprioritizeJob | AbortJob):
        return False
    return not isinstance(job, Running) or job.tries.attempt != command.attempt


TestInvariants = Life.TestCase
TestInvariants.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
