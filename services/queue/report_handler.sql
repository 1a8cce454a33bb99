-- Losing a lease in a crash of Postgres costs at most a lease, so commits do not wait for the disk.

-- name: renew
update leases set expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
where job_id = %(job_id)s and attempt = %(attempt)s and worker = %(worker)s
returning (
  select q.cancel_requested from views.queue q
  where q.job_id = leases.job_id and q.status = 'running' and q.attempt = leases.attempt)

-- name: keep
with dropped as (
  delete from leases l
  using set_config('synchronous_commit', 'off', true),
    unnest(%(dropped_ids)s::uuid[], %(dropped_attempts)s::int[]) as d (job_id, attempt)
  where l.job_id = d.job_id and l.attempt = d.attempt
)
insert into leases (job_id, attempt, worker, expires_at)
select g.job_id, g.attempt, g.worker, clock_timestamp() + make_interval(secs => %(lease_s)s)
from set_config('synchronous_commit', 'off', true),
  unnest(%(job_ids)s::uuid[], %(attempts)s::int[], %(workers)s::text[]) as g (job_id, attempt, worker)
on conflict (job_id) do update set attempt = excluded.attempt, worker = excluded.worker, expires_at = excluded.expires_at
