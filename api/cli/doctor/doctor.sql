What the doctor asks Postgres. It changes nothing.

-- name: server
select current_setting('server_version_num')::int, extract(epoch from clock_timestamp())::float

-- name: applied
select name, sha256 from migrations

-- name: is_migrated
select to_regclass('migrations') is not null

-- name: views
select p.view, p.position, p.version,
  (select count(*) from parked_events e where e.slot = 'live' and e.view = p.view) as parked,
  (select coalesce(max(last_position), 0) from ledger_commits) as head
from view_progress p where p.slot = 'live' order by p.view

-- name: stuck
select pool, count(*) as waiting, extract(epoch from clock_timestamp() - min(queued_at))::float as oldest_s
from views.queue q
where status = 'waiting' and (not_before is null or not_before <= clock_timestamp())
  and not exists (select from views.queue r join leases l using (job_id) where r.pool = q.pool and l.expires_at > clock_timestamp())
group by pool
having min(queued_at) < clock_timestamp() - make_interval(secs => %(waited_s)s)
order by pool
