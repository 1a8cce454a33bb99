-- name: expired
-- The current time, the number of running jobs, and those with an expired lease: at least one row, without a job if
-- there is none.
with present as materialized (
  select clock_timestamp() as at
), running as materialized (
  select q.job_id, q.attempt, q.started_at,
    coalesce(l.expires_at, q.started_at + make_interval(secs => %(lease_s)s)) as until
  from views.queue q left join leases l on l.job_id = q.job_id and l.attempt = q.attempt
  where q.status = 'running'
)
select extract(epoch from at)::float, (select count(*) from running), lost.job_id, lost.attempt
from present left join lateral (
  select job_id, attempt from running where until < at order by started_at limit 100
) lost on true

-- name: overdue
select job_id from views.queue
where status = 'waiting' and attempt = 0 and deadline <= clock_timestamp()
order by deadline
limit 100

-- name: sweep
delete from leases l
where l.expires_at < clock_timestamp() - interval '1 hour'
  and not exists (select from views.queue q where q.job_id = l.job_id and q.attempt = l.attempt and q.status = 'running')

-- name: shorten
-- No lease is that long, so the clock was set back. Otherwise a dead worker would keep its job until the clock reaches
-- the old time again.
update leases set expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
where expires_at > clock_timestamp() + make_interval(secs => 2 * %(lease_s)s)
