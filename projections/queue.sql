-- name: load
select job_id, to_json(t)::text from queue t where job_id = any (%s::uuid[])

-- name: store
insert into queue (
  job_id, owner, pool, job_type, priority, status, attempt, worker, cancel_requested, not_before, deadline,
  queued_at, started_at, queued_position, cost_s)
select
  job_id, owner, pool, job_type, priority, status, attempt, worker, cancel_requested, not_before, deadline,
  queued_at, started_at, queued_position, cost_s
from json_populate_recordset(null::queue, %s::json)
on conflict (job_id) do update set
  owner = excluded.owner, pool = excluded.pool, job_type = excluded.job_type, priority = excluded.priority,
  status = excluded.status, attempt = excluded.attempt, worker = excluded.worker,
  cancel_requested = excluded.cancel_requested, not_before = excluded.not_before, deadline = excluded.deadline,
  queued_at = excluded.queued_at, started_at = excluded.started_at, queued_position = excluded.queued_position,
  cost_s = excluded.cost_s

-- name: remove
delete from queue where job_id = any (%s::uuid[])

-- name: load_turns
with asked as (
  select * from unnest(%(pools)s::text[], %(priorities)s::int[], %(owners)s::text[]) as a (pool, priority, owner)
)
select to_json(t)::text from asked join turns t using (pool, priority, owner)
union
select to_json(leader)::text
from (select distinct pool, priority from asked) levels cross join lateral (
  select * from turns t where t.pool = levels.pool and t.priority = levels.priority order by t.round_s desc limit 1
) leader

-- name: store_turns
insert into turns (pool, priority, owner, waiting, waiting_s, used_s, round_s)
select pool, priority, owner, waiting, waiting_s, used_s, round_s from json_populate_recordset(null::turns, %s::json)
on conflict (pool, priority, owner) do update set
  waiting = excluded.waiting, waiting_s = excluded.waiting_s, used_s = excluded.used_s, round_s = excluded.round_s
