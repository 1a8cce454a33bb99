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
-- The search index of a row is computed only where its text changed: it costs more than the rest of the row.
with given as materialized (
  select * from json_populate_recordset(null::library, %s::json)
), known as (
  update library l set
    job_id = g.job_id, owner = g.owner, "index" = g."index", job_type = g.job_type, model = g.model, task = g.task,
    batch_id = g.batch_id, seed = g.seed, kind = g.kind, bucket = g.bucket, path = g.path, status = g.status,
    media_type = g.media_type, bytes = g.bytes, sha256 = g.sha256, width = g.width, height = g.height,
    rating = g.rating, saved = g.saved, trashed = g.trashed, completed_at = g.completed_at,
    completed_position = g.completed_position, thumbnail_sha256 = g.thumbnail_sha256,
    thumbnail_path = g.thumbnail_path, thumbnail_bytes = g.thumbnail_bytes
  from given g
  where l.asset_id = g.asset_id and (l.prompt, l.title, l.tags) is not distinct from (g.prompt, g.title, g.tags)
  returning l.asset_id
)
insert into library (
  asset_id, job_id, owner, "index", prompt, job_type, model, task, batch_id, seed, kind, bucket, path, status,
  media_type, bytes, sha256, width, height, rating, saved, title, tags, trashed, completed_at, completed_position,
  thumbnail_sha256, thumbnail_path, thumbnail_bytes)
select
  asset_id, job_id, owner, "index", prompt, job_type, model, task, batch_id, seed, kind, bucket, path, status,
  media_type, bytes, sha256, width, height, rating, saved, title, tags, trashed, completed_at, completed_position,
  thumbnail_sha256, thumbnail_path, thumbnail_bytes
from given g where not exists (select from known k where k.asset_id = g.asset_id)
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
