-- name: load_jobs
select job_id, to_json(t)::text from jobs t where job_id = any (%s::uuid[])

-- name: store_jobs
insert into jobs (
  job_id, owner, status, pool, recipe, job_type, priority, batch_id, parent_id, tags, attempt, error,
  cancel_requested, created_at, started_at, finished_at, queued_position, enhanced_prompt, warnings)
select
  job_id, owner, status, pool, recipe, job_type, priority, batch_id, parent_id, tags, attempt, error,
  cancel_requested, created_at, started_at, finished_at, queued_position, enhanced_prompt, warnings
from json_populate_recordset(null::jobs, %s::json)
on conflict (job_id) do update set
  owner = excluded.owner, status = excluded.status, pool = excluded.pool, recipe = excluded.recipe,
  job_type = excluded.job_type, priority = excluded.priority, batch_id = excluded.batch_id,
  parent_id = excluded.parent_id, tags = excluded.tags, attempt = excluded.attempt, error = excluded.error,
  cancel_requested = excluded.cancel_requested, created_at = excluded.created_at, started_at = excluded.started_at,
  finished_at = excluded.finished_at, queued_position = excluded.queued_position,
  enhanced_prompt = excluded.enhanced_prompt, warnings = excluded.warnings

-- name: remove_jobs
delete from jobs where job_id = any (%s::uuid[])

-- name: load_assets
select asset_id, to_json(t)::text from assets t where asset_id = any (%s::uuid[])

-- name: store_assets
insert into assets (
  asset_id, job_id, owner, "index", seed, kind, bucket, path, status, media_type, bytes, sha256, width, height,
  error, rating, saved, title, tags, trashed, completed_at,
  thumbnail_sha256, thumbnail_path, thumbnail_bytes)
select
  asset_id, job_id, owner, "index", seed, kind, bucket, path, status, media_type, bytes, sha256, width, height,
  error, rating, saved, title, tags, trashed, completed_at,
  thumbnail_sha256, thumbnail_path, thumbnail_bytes
from json_populate_recordset(null::assets, %s::json)
on conflict (asset_id) do update set
  job_id = excluded.job_id, owner = excluded.owner, "index" = excluded."index", seed = excluded.seed,
  kind = excluded.kind, bucket = excluded.bucket, path = excluded.path, status = excluded.status,
  media_type = excluded.media_type, bytes = excluded.bytes, sha256 = excluded.sha256, width = excluded.width,
  height = excluded.height, error = excluded.error, rating = excluded.rating, saved = excluded.saved,
  title = excluded.title, tags = excluded.tags, trashed = excluded.trashed, completed_at = excluded.completed_at,
  thumbnail_sha256 = excluded.thumbnail_sha256, thumbnail_path = excluded.thumbnail_path,
  thumbnail_bytes = excluded.thumbnail_bytes

-- name: remove_assets
delete from assets where asset_id = any (%s::uuid[])
