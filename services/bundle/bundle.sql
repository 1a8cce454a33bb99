-- name: snapshot
set transaction isolation level repeatable read, read only

-- name: head
select coalesce(max(notification_id), 0) from ledger

-- name: events
select notification_id, originator_id, originator_version, topic, state
from ledger where split_part(topic, '.', 1) not in ('user', 'ledger') -- these belong to this installation only
order by notification_id

-- name: events_of
select notification_id, originator_id, originator_version, topic, state
from ledger where originator_id = any(%s) order by notification_id

-- name: count_of
select count(*) from ledger where originator_id = any(%s)

-- name: events_named
select notification_id, originator_id, originator_version, topic, state
from ledger where regexp_replace(topic, '\.v[0-9]+$', '') = any(%s) order by notification_id

-- name: commits
select first_position, last_position from ledger_commands order by first_position

-- name: unfinished
select q.originator_id from ledger q
where q.topic like 'job.queued.v%%' and not exists (
  select from ledger e
  where e.originator_id = q.originator_id and regexp_replace(e.topic, '\.v[0-9]+$', '') = any(%s))

-- name: lock
-- Other writers wait while this lock is held. A program that hangs while it holds the lock loses it, and nothing is
-- stored.
select pg_advisory_xact_lock(hashtextextended('darkroom.ledger', 0)),
  set_config('idle_in_transaction_session_timeout', %(idle_ms)s, true),
  set_config('transaction_timeout', %(ms)s, true)

-- name: there
select l.originator_id, l.originator_version, l.topic, sha256(l.state)
from unnest(%b::uuid[], %b::bigint[]) as e (stream, version)
join ledger l on l.originator_id = e.stream and l.originator_version = e.version

-- name: by_stream
select originator_id, originator_version, topic, state
from ledger where originator_id = any(%s) order by originator_id, originator_version
