-- name: load
select job_id, to_jsonb(t)::text from queue t where job_id = any (%s::uuid[])

-- name: store
insert into queue (
  job_id, owner, pool, job_type, priority, status, attempt, worker, cancel_requested, not_before, deadline,
  queued_at, started_at, queued_position)
select
  job_id, owner, pool, job_type, priority, status, attempt, worker, cancel_requested, not_before, deadline,
  queued_at, started_at, queued_position
from jsonb_populate_recordset(null::queue, %s::jsonb)
on conflict (job_id) do update set
  owner = excluded.owner, pool = excluded.pool, job_type = excluded.job_type, priority = excluded.priority,
  status = excluded.status, attempt = excluded.attempt, worker = excluded.worker,
  cancel_requested = excluded.cancel_requested, not_before = excluded.not_before, deadline = excluded.deadline,
  queued_at = excluded.queued_at, started_at = excluded.started_at, queued_position = excluded.queued_position

-- name: remove
delete from queue where job_id = any (%s::uuid[])
