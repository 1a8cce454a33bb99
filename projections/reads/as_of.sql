Queries over views as of a position: `views_as_of`, filled by `darkroom rebuild VIEW --as-of`. Newest first.

-- name: list_jobs
select {job}
from views_as_of.jobs
where owner = %(owner)s
  and (%(status)s::text is null or status = %(status)s::text)
  and (%(job_type)s::text is null or job_type = %(job_type)s::text)
  and (%(batch_id)s::uuid is null or batch_id = %(batch_id)s::uuid)
order by queued_position desc
limit %(limit)s

-- name: assets_of_jobs
select {asset}
from views_as_of.assets
where job_id = any (%(job_ids)s::uuid[])
order by job_id, "index"

-- name: list_library
select {listed_in_library}, null::jsonb as error, completed_position as list_position
from views_as_of.library
where owner = %(owner)s and status = 'completed' and not trashed
order by completed_position desc
limit %(limit)s
