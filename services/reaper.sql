-- name: expired
select q.job_id, q.attempt
from views.queue q
left join leases l on l.job_id = q.job_id and l.attempt = q.attempt
where q.status = 'running'
  and coalesce(l.expires_at, q.started_at + make_interval(secs => %(lease_s)s)) < clock_timestamp()
order by q.started_at
limit 100

-- name: overdue
select job_id from views.queue
where status = 'waiting' and attempt = 0 and deadline <= clock_timestamp()
order by deadline
limit 100

-- name: sweep
delete from leases l
where l.expires_at < clock_timestamp() - interval '1 hour'
  and not exists (select from views.queue q where q.job_id = l.job_id and q.attempt = l.attempt and q.status = 'running')
