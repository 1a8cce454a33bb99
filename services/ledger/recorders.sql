-- name: read_after
select notification_id, originator_id, originator_version, topic, state
from ledger where notification_id > %s order by notification_id limit %s

-- name: read_of
select notification_id, originator_id, originator_version, topic, state
from ledger
where notification_id > %(after)s and notification_id <= %(upto)s
  and (cardinality(%(kinds)s::text[]) = 0 or split_part(topic, '.', 1) = any(%(kinds)s::text[])
    or split_part(topic, '.', 1) || '.' || split_part(topic, '.', 2) = any(%(kinds)s::text[]))
order by notification_id

-- name: read_streams
select notification_id, originator_id, originator_version, topic, state
from ledger where originator_id = any(%s) order by originator_id, originator_version

-- name: read_first
select notification_id, originator_id, originator_version, topic, state
from ledger where originator_id = %s order by originator_version limit 1

-- name: head
select coalesce(max(last_position), 0) from ledger_commits
