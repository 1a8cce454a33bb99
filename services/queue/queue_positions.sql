-- name: asked
select pool, owner, priority, job_id, queued_position, cost_s,
  coalesce(not_before <= clock_timestamp(), true) as is_due
from views.queue
where job_id = any (%s::uuid[]) and status = 'waiting'
order by pool, owner, priority

-- name: counted
select queued_position from views.queue
where status = 'waiting' and pool = %(pool)s and priority = %(priority)s and owner = %(owner)s
order by queued_position
limit %(limit)s

-- name: last_of_line
select max(queued_position) from views.queue
where status = 'waiting' and pool = %(pool)s and priority = %(priority)s and owner = %(owner)s

-- name: handed_out
select q.job_id, h.attempt, q.cost_s
from unnest(%(job_ids)s::uuid[], %(attempts)s::int[]) as h (job_id, attempt)
  join views.queue q on q.job_id = h.job_id and q.attempt + 1 = h.attempt
where q.status = 'waiting' and q.pool = %(pool)s
order by q.priority desc, q.queued_position
