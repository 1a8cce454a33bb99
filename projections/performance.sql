-- name: load
select job_id, to_json(t)::text from performance t where job_id = any (%s::uuid[])

-- name: store
insert into performance (
  job_id, owner, job_type, model, pool, quantity, status, attempts, oldest_attempt, queued_at, started_at,
  last_started_at, finished_at, expected_s, peak_memory_bytes)
select
  job_id, owner, job_type, model, pool, quantity, status, attempts, oldest_attempt, queued_at, started_at,
  last_started_at, finished_at, expected_s, peak_memory_bytes
from json_populate_recordset(null::performance, %s::json)
on conflict (job_id) do update set
  owner = excluded.owner, job_type = excluded.job_type, model = excluded.model, pool = excluded.pool,
  quantity = excluded.quantity, status = excluded.status, attempts = excluded.attempts,
  oldest_attempt = excluded.oldest_attempt, queued_at = excluded.queued_at, started_at = excluded.started_at,
  last_started_at = excluded.last_started_at, finished_at = excluded.finished_at, expected_s = excluded.expected_s,
  peak_memory_bytes = excluded.peak_memory_bytes

-- name: remove
delete from performance where job_id = any (%s::uuid[])
