The API's queries over the live views. Lists are newest first below a cursor; a `null` filter matches everything.

-- name: view_positions
select view, position from view_progress where slot = 'live'

-- name: ledger_head
select coalesce(max(last_position), 0) from ledger_commits

-- name: parked
select view, stream_id, position, reason, parked_at
from parked_events where slot = 'live' order by view, position limit %(limit)s

-- name: list_jobs
select {job}
from views.jobs
where owner = %(owner)s
  and (%(before)s::bigint is null or queued_position < %(before)s::bigint)
  and (%(status)s::text is null or status = %(status)s::text)
  and (%(job_type)s::text is null or job_type = %(job_type)s::text)
  and (%(batch_id)s::uuid is null or batch_id = %(batch_id)s::uuid)
order by queued_position desc
limit %(limit)s

-- name: list_everybodys_jobs
-- Waiting and running jobs are found through the queue, which is short; all others by the order of the list. The index
-- is over `-queued_position`, so that no list of one owner is read through everybody's.
select {job}
from views.jobs
where (%(before)s::bigint is null or -queued_position > -%(before)s::bigint)
  and (%(owner)s::text is null or owner = %(owner)s::text)
  and (%(status)s::text is null or status = %(status)s::text)
  and (coalesce(%(status)s::text, '') not in ('queued', 'processing') or job_id in (select job_id from views.queue))
  and (%(pool)s::text is null or pool = %(pool)s::text)
  and (%(job_type)s::text is null or job_type = %(job_type)s::text)
order by -queued_position
limit %(limit)s

-- name: find_anybodys_job
select {job}
from views.jobs
where job_id = %(job_id)s

-- name: list_jobs_tagged
select {job}
from jobs_tagged(
  %(tag)s::text, %(status)s::text, %(job_type)s::text, %(batch_id)s::uuid, %(before)s::bigint, %(limit)s::int) as page
  join views.jobs using (job_id)
where owner = %(owner)s
order by queued_position desc

-- name: dead_jobs
select job_id, owner, job_type, recipe ->> 'model' as model, pool, jsonb_array_length(recipe -> 'seeds') as quantity,
  attempt as attempts, error, created_at, finished_at, queued_position
from views.jobs
where status = 'failed'
  and (%(before)s::bigint is null or queued_position < %(before)s::bigint)
  and (%(error_class)s::text is null or error ->> 'error_class' = %(error_class)s::text)
order by queued_position desc
limit %(limit)s

-- name: which_exist
select job_id from views.jobs where job_id = any (%s::uuid[])

-- name: find_job
select {job}
from views.jobs
where owner = %(owner)s and job_id = %(job_id)s

-- name: assets_of_jobs
select {asset}
from views.assets
where job_id = any (%(job_ids)s::uuid[])
order by job_id, "index"

-- name: find_asset
select {asset_of_a},
  j.recipe ->> 'prompt' as prompt, j.job_type, j.recipe ->> 'model' as model, j.recipe ->> 'task' as task, j.batch_id
from views.assets a join views.jobs j using (job_id)
where a.owner = %(owner)s and a.asset_id = %(asset_id)s

-- name: list_workspace
select {listed}, queued_position as list_position
from views.workspace
where owner = %(owner)s and not dismissed and not trashed and status <> 'canceled' and kind is not null
  and (
    %(before)s::bigint is null
    or (queued_position <= %(before)s::bigint
      and (queued_position < %(before)s::bigint or "index" > %(after_index)s::bigint)))
order by queued_position desc, "index"
limit %(limit)s

-- name: list_library
select {listed_in_library}, null::jsonb as error, page.completed_position as list_position
from library_page(
  %(kind)s::text, %(saved)s::boolean, %(tag)s::text, search_query(%(words)s::text),
  %(min_score)s::int, %(model)s::text, %(trashed)s::boolean, %(before)s::bigint, %(limit)s::int) as page
  join views.library using (asset_id)
where owner = %(owner)s
order by page.completed_position desc

-- name: history_of_streams
select {history}
from views.history
where owner = %(owner)s and stream_id = any (%(stream_ids)s::uuid[]) and position > %(after)s
order by position
limit %(limit)s

-- name: history_of_owner
select {history}
from views.history
where owner = %(owner)s and position > %(after)s and position <= %(upto)s
order by position
limit %(limit)s

-- name: running_attempts
select job_id, owner, attempt, worker from views.queue where status = 'running' and job_id = any(%(job_ids)s)

-- name: recent_ratios_of_types
-- Actual over expected seconds, by job type, of the jobs that succeeded among the last 500 that ended.
select job_type,
  percentile_cont(0.5) within group (order by ratio)::float as p50,
  percentile_cont(0.9) within group (order by ratio)::float as p90
from (
  select job_type, status, ratio from views.performance where finished_at is not null order by finished_at desc limit 500
) recent
where status = 'succeeded' and ratio is not null
group by job_type

-- name: recent_ratios
-- Actual over expected seconds, by pool, of the jobs with a known ratio among the last 500 that ended.
select pool,
  percentile_cont(0.5) within group (order by ratio)::float as p50,
  percentile_cont(0.9) within group (order by ratio)::float as p90
from (select pool, ratio from views.performance where finished_at is not null order by finished_at desc limit 500) recent
where ratio is not null
group by pool

-- name: queues
with backlog as (
  select pool,
    count(*) filter (where status = 'waiting') as waiting,
    count(*) filter (where status = 'running') as running,
    extract(epoch from %(now)s::timestamptz - min(queued_at) filter (where status = 'waiting'))::float as oldest_waiting_s
  from views.queue group by pool
), ended as (
  select pool,
    avg(extract(epoch from started_at - created_at))::float as wait_mean_s,
    percentile_cont(0.5) within group (order by extract(epoch from started_at - created_at))::float as wait_p50_s,
    percentile_cont(0.9) within group (order by extract(epoch from started_at - created_at))::float as wait_p90_s,
    count(*) as ended,
    count(*) filter (where status = 'failed') as failed,
    count(*) filter (where status in ('succeeded', 'partially_succeeded', 'failed')) as judged
  from views.jobs where finished_at > %(now)s::timestamptz - interval '1 hour' group by pool
)
select pool,
  coalesce(b.waiting, 0) as waiting, coalesce(b.running, 0) as running, b.oldest_waiting_s,
  e.wait_mean_s, e.wait_p50_s, e.wait_p90_s, coalesce(e.ended, 0) as ended_last_hour,
  e.failed::float / nullif(e.judged, 0) as error_rate
from unnest(%(pools)s::text[]) as p (pool)
  left join backlog b using (pool)
  left join ended e using (pool)
order by pool

-- name: performance
select job_type, model,
  count(*) as jobs,
  avg(expected_s)::float as expected_s,
  avg(actual_s)::float as actual_s,
  avg(ratio)::float as ratio_mean,
  percentile_cont(0.5) within group (order by ratio)::float as ratio_p50,
  percentile_cont(0.9) within group (order by ratio)::float as ratio_p90,
  max(peak_memory_bytes) as peak_memory_bytes
from views.performance
where finished_at > %(now)s::timestamptz - interval '1 hour'
group by job_type, model
order by job_type, model

-- name: ended_jobs
select pool, job_type, status, count(*) as jobs,
  count(wait_s) as waits, coalesce(sum(wait_s), 0)::float as wait_s,
  count(actual_s) as runs, coalesce(sum(actual_s), 0)::float as actual_s
from views.performance
where finished_at is not null
group by pool, job_type, status
order by pool, job_type, status

-- name: queued_jobs
select pool, status, count(*) as jobs from views.queue group by pool, status
