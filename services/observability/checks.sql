What the checks ask Postgres. They change nothing.

-- name: services
-- Seconds by this server's clock. One row for each process of a service.
select service, process, abs(extract(epoch from at - said_at))::float as silent_s,
  extract(epoch from at - last_progress_at)::float as idle_s,
  code, waits_for, extract(epoch from at - waits_since)::float as waits_s, remedy, facts
from service_progress, (select clock_timestamp() as at) present
order by service, silent_s

-- name: ledger_lock
-- Who waits for the lock of the ledger, for how long, and who holds it. Of another user's session only the number is
-- visible.
with ledger as (
  select l.pid, l.granted, l.waitstart from pg_locks l, hashtextextended('darkroom.ledger', 0) key
  where l.locktype = 'advisory' and l.objsubid = 1
    and l.database = (select oid from pg_database where datname = current_database())
    and l.classid = ((key >> 32) & 4294967295)::oid and l.objid = (key & 4294967295)::oid
)
select extract(epoch from clock_timestamp() - min(w.waitstart))::float as waited_s, count(*) as waiting,
  (select pid from ledger where granted limit 1) as holder,
  (select coalesce(nullif(a.application_name, ''), 'a program without a name')
   from ledger h join pg_stat_activity a using (pid) where h.granted limit 1) as program
from ledger w where not w.granted having count(*) > 0

-- name: lock_queues
-- The longest wait for a table, and who blocks it.
select c.relname::text, extract(epoch from clock_timestamp() - l.waitstart)::float as waited_s,
  (pg_blocking_pids(l.pid))[1] as holder
from pg_locks l join pg_class c on c.oid = l.relation
where not l.granted and l.locktype = 'relation' and l.waitstart is not null
  and l.database = (select oid from pg_database where datname = current_database())
order by l.waitstart limit 1

-- name: views
select p.view, p.position, p.version,
  (select count(*) from parked_events e where e.slot = 'live' and e.view = p.view) as parked,
  (select coalesce(max(last_position), 0) from ledger_commits) as head
from view_progress p where p.slot = 'live' order by p.view

-- name: waiting_jobs
-- Jobs that could start now, by pool, and whether a worker is running a job of the pool.
select pool, count(*) as waiting, extract(epoch from clock_timestamp() - min(queued_at))::float as oldest_s,
  exists (
    select from views.queue r join leases l using (job_id) where r.pool = q.pool and l.expires_at > clock_timestamp())
from views.queue q
where status = 'waiting' and (not_before is null or not_before <= clock_timestamp())
group by pool order by pool

-- name: missing_models
-- Models for which the last job within the hour failed because no worker could load them.
select recipe ->> 'model' as model from views.jobs
where finished_at > clock_timestamp() - interval '1 hour' and status in ('succeeded', 'partially_succeeded', 'failed')
group by recipe ->> 'model'
having (array_agg(error ->> 'error_class' order by finished_at desc))[1] = 'model_unavailable'
order by 1

-- name: stopped
select reason from ledger_stopped

-- name: held_pools
select h.name, h.hold, h.actor, h.reason, to_char(h.since at time zone 'utc', 'YYYY-MM-DD HH24:MI "UTC"') as since,
  (select count(*) from views.queue q where q.pool = h.name and q.status = 'waiting') as waiting
from views.holds h where h.kind = 'pool' order by h.name

-- name: workers_away
-- Workers that disappeared lately without announcing their end. A worker that stops normally announces it.
select w.name, extract(epoch from clock_timestamp() - w.heard_at)::float as silent_s
from workers w
where w.heard_at < clock_timestamp() - make_interval(secs => %(lease_s)s)
  and w.heard_at > clock_timestamp() - interval '1 hour'
order by w.heard_at desc limit 5

-- name: models_without_worker
-- Models of waiting jobs that no worker of their pool announces. Looks at the oldest thousand.
select j.recipe ->> 'model' as model, q.pool, count(*) as waiting
from (select job_id, pool from views.queue where status = 'waiting' order by queued_position limit 1000) q
  join views.jobs j using (job_id)
where exists (
    select from workers w
    where q.pool = any (w.pools) and w.heard_at > clock_timestamp() - make_interval(secs => %(lease_s)s))
  and not exists (
    select from workers w
    where q.pool = any (w.pools) and w.heard_at > clock_timestamp() - make_interval(secs => %(lease_s)s)
      and w.models @> jsonb_build_array(jsonb_build_object('name', j.recipe ->> 'model')))
group by 1, 2 order by 1, 2
