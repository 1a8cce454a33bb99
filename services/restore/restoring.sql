-- name: lock
select pg_advisory_xact_lock(hashtextextended('darkroom.ledger', 0))

-- name: let_go
-- Takes a lock that blocks every append until this transaction ends.
alter table ledger disable trigger ledger_stop

-- name: forget_stop
delete from ledger_stopped

-- name: head
select coalesce(max(last_position), 0) from ledger_commits

-- name: after
select notification_id, originator_id, originator_version, topic, state
from ledger where notification_id > %s order by notification_id

-- name: at
select notification_id, originator_id, originator_version, topic, state
from ledger where notification_id = %s

-- name: versions
select originator_id, max(originator_version) from ledger where originator_id = any(%s) group by originator_id

-- name: served
select command_id from ledger_commands where command_id = any(%s)

-- name: begin_epoch
insert into epochs (number, from_position, reason, instead_of, replaced_stream)
select coalesce(max(number), -1) + 1, %(from)s, %(reason)s, %(instead_of)s, %(replaced)s from epochs
returning epoch

-- name: keep_epoch
insert into epochs (epoch, number, from_position, reason, instead_of)
select %(epoch)s, coalesce(max(number), -1) + 1, %(from)s, %(reason)s,
  (select epoch from epochs order by number desc limit 1)
from epochs
on conflict do nothing

-- name: is_replaced
select exists (select from epochs where replaced_stream = %s)

-- name: key_added
insert into api_keys (key_id, owner, sha256, created_at) values (%(key_id)s, %(name)s, %(sha256)s, %(at)s)
on conflict do nothing

-- name: key_revoked
update api_keys set revoked_at = greatest(%(at)s, created_at) where key_id = %(key_id)s and revoked_at is null

-- name: end_others
-- All other clients must reconnect and read the ledger as it is now.
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
