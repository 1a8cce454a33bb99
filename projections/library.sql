-- name: load
select asset_id, to_json(t)::text
from (
  select
    asset_id, job_id, owner, "index", prompt, job_type, model, task, batch_id, seed, kind, bucket, path, status,
    media_type, bytes, sha256, width, height, rating, saved, title, tags, trashed, completed_at, completed_position,
    thumbnail_sha256, thumbnail_path, thumbnail_bytes
  from library where asset_id = any (%s::uuid[])
) t

-- name: store
insert into library (
  asset_id, job_id, owner, "index", prompt, job_type, model, task, batch_id, seed, kind, bucket, path, status,
  media_type, bytes, sha256, width, height, rating, saved, title, tags, trashed, completed_at, completed_position,
  thumbnail_sha256, thumbnail_path, thumbnail_bytes)
select
  asset_id, job_id, owner, "index", prompt, job_type, model, task, batch_id, seed, kind, bucket, path, status,
  media_type, bytes, sha256, width, height, rating, saved, title, tags, trashed, completed_at, completed_position,
  thumbnail_sha256, thumbnail_path, thumbnail_bytes
from json_populate_recordset(null::library, %s::json)
on conflict (asset_id) do update set
  job_id = excluded.job_id, owner = excluded.owner, "index" = excluded."index", prompt = excluded.prompt,
  job_type = excluded.job_type, model = excluded.model, task = excluded.task, batch_id = excluded.batch_id,
  seed = excluded.seed, kind = excluded.kind, bucket = excluded.bucket, path = excluded.path,
  status = excluded.status, media_type = excluded.media_type, bytes = excluded.bytes, sha256 = excluded.sha256,
  width = excluded.width, height = excluded.height, rating = excluded.rating, saved = excluded.saved,
  title = excluded.title, tags = excluded.tags, trashed = excluded.trashed, completed_at = excluded.completed_at,
  completed_position = excluded.completed_position,
  thumbnail_sha256 = excluded.thumbnail_sha256, thumbnail_path = excluded.thumbnail_path,
  thumbnail_bytes = excluded.thumbnail_bytes

-- name: remove
delete from library where asset_id = any (%s::uuid[])
