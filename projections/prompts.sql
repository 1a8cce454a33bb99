-- name: load
select prompt_id, to_json(t)::text
from (
  select
    prompt_id, owner, title, prompt, prompt_sha256, negative_prompt, model, job_type, task, tags, created_at, updated_at,
    saved_position
  from prompts where prompt_id = any (%s::uuid[])
) t

-- name: store
insert into prompts (
  prompt_id, owner, title, prompt, prompt_sha256, negative_prompt, model, job_type, task, tags, created_at, updated_at,
  saved_position)
select
  prompt_id, owner, title, prompt, prompt_sha256, negative_prompt, model, job_type, task, tags, created_at, updated_at,
  saved_position
from json_populate_recordset(null::prompts, %s::json)
on conflict (prompt_id) do update set
  title = excluded.title, prompt = excluded.prompt, prompt_sha256 = excluded.prompt_sha256,
  negative_prompt = excluded.negative_prompt, model = excluded.model, job_type = excluded.job_type,
  task = excluded.task, tags = excluded.tags, updated_at = excluded.updated_at

-- name: remove
delete from prompts where prompt_id = any (%s::uuid[])
