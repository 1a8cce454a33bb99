-- name: load
select prompt_id, (to_jsonb(t) - 'words')::text from prompts t where prompt_id = any (%s::uuid[])

-- name: store
insert into prompts (
  prompt_id, owner, title, prompt, prompt_sha256, negative_prompt, model, job_type, task, tags, created_at, updated_at,
  saved_position)
select
  prompt_id, owner, title, prompt, prompt_sha256, negative_prompt, model, job_type, task, tags, created_at, updated_at,
  saved_position
from jsonb_populate_recordset(null::prompts, %s::jsonb)
on conflict (prompt_id) do update set
  title = excluded.title, prompt = excluded.prompt, prompt_sha256 = excluded.prompt_sha256,
  negative_prompt = excluded.negative_prompt, model = excluded.model, job_type = excluded.job_type,
  task = excluded.task, tags = excluded.tags, updated_at = excluded.updated_at

-- name: remove
delete from prompts where prompt_id = any (%s::uuid[])
