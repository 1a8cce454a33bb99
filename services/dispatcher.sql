-- name: waiting
select job_id, attempt + 1
from views.queue
where status = 'waiting' and pool = %s and (not_before is null or not_before <= clock_timestamp())
order by priority desc, queued_position
limit %s
