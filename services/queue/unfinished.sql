-- name: counted
-- The position of the view, and the owner's waiting jobs in it, at the same moment.
select coalesce((select position from view_progress where view = 'queue' and slot = 'live'), 0),
  count(*) filter (where status = 'waiting')
from views.queue where owner = %(owner)s

-- name: page
select job_id from views.queue
where owner = %(owner)s and job_id > %(after)s
order by job_id
limit %(limit)s

-- name: page_of_running
select job_id from views.queue
where owner = %(owner)s and status = 'running' and job_id > %(after)s
order by job_id
limit %(limit)s
