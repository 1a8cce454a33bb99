-- name: links
select first_position, last_position, hash from ledger_commits where last_position > %s order by last_position limit %s

-- name: events
select notification_id, originator_id, originator_version, topic, state
from ledger where notification_id between %s and %s order by notification_id

-- name: head
select coalesce(max(notification_id), 0) from ledger

-- name: snapshot
set transaction isolation level repeatable read, read only
