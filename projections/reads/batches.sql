The API's queries about batches over the live views. Newest first below a cursor; a `null` filter matches everything.

-- name: list_batches
select {batch}
from views.batches
where owner = %(owner)s
  and (%(before)s::bigint is null or opened_position < %(before)s::bigint)
  and (%(kind)s::text is null or kind = %(kind)s::text)
  and (%(collection)s::text is null or collection = %(collection)s::text)
  and (%(words)s::text is null or words @@ search_query(%(words)s::text))
order by opened_position desc
limit %(limit)s

-- name: find_batch
select {batch}
from views.batches
where owner = %(owner)s and batch_id = %(batch_id)s

-- name: items
select {item}
from views.batch_items
where owner = %(owner)s and batch_id = %(batch_id)s
order by "index"

-- name: preferences
select {preference}
from views.batch_preferences
where owner = %(owner)s and batch_id = %(batch_id)s
order by position

-- name: assets
select {asset_of_a},
  j.recipe ->> 'prompt' as prompt, j.job_type, j.recipe ->> 'model' as model, j.recipe ->> 'task' as task, j.batch_id
from views.assets a join views.jobs j using (job_id)
where a.owner = %(owner)s and a.job_id = any (%(jobs)s::uuid[])
order by a.job_id, a."index"

-- name: statuses
select job_id, status from views.jobs where owner = %(owner)s and job_id = any (%(jobs)s::uuid[])
