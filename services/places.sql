-- name: asked
select pool, owner, priority, job_id, queued_position
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
