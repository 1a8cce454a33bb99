-- A lease that a crash of Postgres takes along costs no more than a lease, so nobody waits for the disk.

-- name: grant
insert into leases (job_id, attempt, worker, expires_at)
select %(job_id)s, %(attempt)s, %(worker)s, clock_timestamp() + make_interval(secs => %(lease_s)s)
from set_config('synchronous_commit', 'off', true)
on conflict (job_id) do update set attempt = excluded.attempt, worker = excluded.worker, expires_at = excluded.expires_at

-- name: renew
update leases set expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
where job_id = %(job_id)s and attempt = %(attempt)s and worker = %(worker)s
returning (
  select q.cancel_requested from views.queue q
  where q.job_id = leases.job_id and q.status = 'running' and q.attempt = leases.attempt)

-- name: drop
delete from leases using set_config('synchronous_commit', 'off', true)
where job_id = %(job_id)s and attempt = %(attempt)s
