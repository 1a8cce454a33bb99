The views after a busy year, made up in place: `admin` has 100,000 completed assets, and 100 owners have 1,000 each.

Jobs of admin and of the others take turns, three assets each. What filters ask for is there in every proportion: in each
row, in every other one, in the oldest half alone, in a handful, in a single one, and nowhere.

-- name: jobs
insert into views.jobs (
  job_id, owner, status, pool, recipe, job_type, priority, batch_id, tags, attempt, error, created_at, started_at,
  finished_at, queued_position)
select
  md5('job ' || n)::uuid, owner, status, 'sdxl',
  jsonb_build_object(
    'job_type', job_type, 'model', model, 'task', 't2i',
    'prompt', 'a lighthouse on a cliff at dusk, warm light, detailed'
      || case when n < jobs / 2 then ', castle' else '' end
      || case when n = jobs / 3 then ', unicorn' else '' end
      || (select string_agg(' word' || (2000 * power((hashint4(n * 7 + w) & 65535) / 65536.0, 3))::int, '')
        from generate_series(1, 6) w),
    'negative_prompt', 'blurry, low quality, watermark, text',
    'params', jsonb_build_object('width', 256, 'height', 256, 'steps', 15, 'guidance', 6.0),
    'seeds', jsonb_build_array(n, n + 1, n + 2), 'references', '[]'::jsonb, 'media', '{}'::jsonb, 'files', '{}'::jsonb,
    'enhance', false),
  job_type, 0, case when mod(n, 40) < 8 then md5('batch ' || n / 400)::uuid end,
  case when n = jobs / 3 then '{Keep & frame}'::text[] when n < jobs / 10 then '{clip}' when mod(n, 8) < 4 then '{sea}'
    else '{}' end,
  1,
  case when status = 'failed' then '{"error_class": "internal", "message": "It broke."}'::jsonb end,
  timestamptz '2031-01-01' + n * interval '1 minute',
  case when status <> 'queued' then timestamptz '2031-01-01' + n * interval '1 minute' end,
  case when status not in ('queued', 'processing') then timestamptz '2031-01-01' + n * interval '61 seconds' end,
  n * 12
from (
  select n, jobs,
    case when mod(n, 2) = 1 then 'admin' else 'owner-' || mod(n / 2, 100) end as owner,
    case when n > jobs - 400 then 'queued' when n > jobs - 420 then 'processing'
      when mod(n, 997) = 1 then 'failed' else 'succeeded' end as status,
    case when n < jobs / 10 then 'video_fast' when mod(n, 20) < 4 then 'sdxl_image_high' else 'sdxl_image_fast' end
      as job_type,
    case when n < jobs / 10 then 'wan-demo' when mod(n, 3001) = 1 then 'qwen-demo' else 'sdxl-demo' end as model
  from (select %(jobs)s::int as jobs) total, generate_series(1, jobs) n
) made

-- name: assets
insert into views.assets (
  asset_id, job_id, owner, "index", seed, kind, bucket, path, status, media_type, bytes, sha256, width, height, error,
  rating, saved, title, tags, trashed, completed_at)
select
  md5(j.job_id || ' ' || i)::uuid, j.job_id, j.owner, i, i,
  case when j.job_type = 'video_fast' then 'video' else 'image' end, j.job_type,
  format('%s/%s/%s_%s.png', j.job_type, j.owner, j.job_id, i),
  a.status, case when made then 'image/png' end, case when made then 81234 end,
  case when made then repeat(md5(j.job_id::text), 2) end, case when made then 256 end, case when made then 256 end, j.error,
  case when not made or h % 2 = 0 then null when h % 1999 = 1 then 5 else 1 + h % 4 end,
  made and h % 20 = 0, case when h % 10 = 1 then 'Regatta number ' || h % 500 end,
  array_remove(array[
    case when made and h % 2 = 0 then 'sea' end,
    case when made and h % 9973 = 1 then 'Keep & frame' end,
    case when made and j.job_type = 'video_fast' then 'clip' end], null),
  made and h % 100 = 3, case when made then j.finished_at end
from views.jobs j
  cross join generate_series(0, 2) i
  cross join lateral (select case j.status
    when 'succeeded' then 'completed' when 'failed' then 'failed' else 'reserved' end as status) a
  cross join lateral (select a.status = 'completed' as made, hashint4((j.queued_position * 3 + i)::int) & 16777215 as h) r

-- name: workspace
insert into views.workspace (
  asset_id, job_id, owner, "index", prompt, job_type, model, task, batch_id, seed, kind, bucket, path, status, media_type,
  bytes, sha256, width, height, error, rating, saved, title, tags, dismissed, trashed, completed_at, queued_position)
select
  a.asset_id, a.job_id, a.owner, a."index", j.recipe ->> 'prompt', j.job_type, j.recipe ->> 'model', 't2i', j.batch_id,
  a.seed, a.kind, a.bucket, a.path, a.status, a.media_type, a.bytes, a.sha256, a.width, a.height, a.error, a.rating,
  a.saved, a.title, a.tags, false, a.trashed, a.completed_at, j.queued_position
from views.assets a join views.jobs j using (job_id)

-- name: library
insert into views.library (
  asset_id, job_id, owner, "index", prompt, job_type, model, task, batch_id, seed, kind, bucket, path, status, media_type,
  bytes, sha256, width, height, rating, saved, title, tags, trashed, completed_at, completed_position)
select
  asset_id, job_id, owner, "index", prompt, job_type, model, task, batch_id, seed, kind, bucket, path, status, media_type,
  bytes, sha256, width, height, rating, saved, title, tags, trashed, completed_at,
  case when status = 'completed' then queued_position + 3 + 3 * "index" end
from views.workspace where status <> 'failed'

-- name: queue
insert into views.queue (
  job_id, owner, pool, job_type, priority, status, attempt, worker, queued_at, started_at, queued_position)
select job_id, owner, pool, job_type, priority, case status when 'queued' then 'waiting' else 'running' end, attempt,
  case when started_at is not null then 'gpu-1' end, created_at, started_at, queued_position
from views.jobs where status in ('queued', 'processing')

-- name: history
insert into views.history (position, stream_id, version, type, at, actor, owner, correlation_id, data)
select queued_position + place, job_id, 1 + place, case when place = 0 then 'job.queued' else 'job.started' end,
  created_at, owner, owner, job_id, jsonb_build_object('attempt', 1, 'about', repeat('x', 200))
from views.jobs cross join generate_series(0, 10) place
where owner = 'admin'

-- name: scores
insert into views.scores (
  owner, by, key, value, first_position, jobs, rated, distribution, mean, score, won, lost, formula)
select owner, 'prompt', md5(job_id || (recipe ->> 'prompt')), recipe ->> 'prompt', queued_position, 1, 1,
  '{0,0,0,1,0}', 4, 3 + mod(queued_position, 1000) / 1000.0, 0, 0, 1
from views.jobs

-- name: prompts
insert into views.prompts (
  prompt_id, owner, title, prompt, prompt_sha256, model, task, tags, created_at, updated_at, saved_position)
select job_id, owner, 'Prompt ' || queued_position, recipe ->> 'prompt', md5(job_id || (recipe ->> 'prompt')),
  recipe ->> 'model', 't2i', '{}', created_at, created_at, queued_position + 11
from views.jobs where mod(queued_position, case owner when 'admin' then 25 else 5 end) = 0

-- name: batch_items
insert into views.batch_items (batch_id, owner, "index", template, status, job_id, jobs)
select batch_id, owner, row_number() over (partition by batch_id order by queued_position) - 1, 'template ' || queued_position,
  status, job_id, array[job_id]
from views.jobs where owner = 'admin' and batch_id is not null

-- name: batches
insert into views.batches (batch_id, owner, kind, name, collection, counts, words, created_at, opened_position)
select batch_id, owner, case when mod(n, 50) = 0 then 'comparison' else 'batch' end, 'Regatta ' || n,
  case when mod(n, 2) = 0 then 'Harbours' end, '{"succeeded": 40}',
  to_tsvector('simple', 'Regatta ' || n || case when mod(n, 2) = 0 then ' Harbours' else '' end), created_at, position
from (
  select batch_id, 'admin' as owner, min(created_at) as created_at, min(queued_position) - 1 as position,
    row_number() over () as n
  from views.jobs where owner = 'admin' and batch_id is not null group by batch_id
  union all
  select md5('empty ' || n)::uuid, case when mod(n, 2) = 0 then 'admin' else 'owner-' || mod(n, 100) end,
    timestamptz '2031-01-01' + n * interval '1 minute', n * 20 + 5, n
  from generate_series(1, 40000) n
) made
