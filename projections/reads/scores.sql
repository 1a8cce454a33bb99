The API's queries over `scores` and `prompts`.

-- name: list_scores
select {score}
from views.scores
where owner = %(owner)s and by = %(by)s
  and (%(score)s::float is null or (score, rated, first_position) < (%(score)s::float, %(rated)s, %(position)s))
order by score desc, rated desc, first_position desc
limit %(limit)s

-- name: standing
select jobs as usage_count, mean as mean_score, score
from views.scores where owner = %(owner)s and by = 'prompt' and key = %(key)s

-- name: list_prompts
select p.prompt_id, p.title, p.prompt, p.negative_prompt, p.model, p.job_type, p.task, p.tags, p.created_at,
  p.updated_at, p.saved_position, coalesce(s.jobs, 0) as usage_count, s.mean as mean_score, s.score
from views.prompts p left join views.scores s on s.owner = p.owner and s.by = 'prompt' and s.key = p.prompt_sha256
where p.owner = %(owner)s
  and (%(prompt_id)s::uuid is null or p.prompt_id = %(prompt_id)s::uuid)
  and (%(before)s::bigint is null or p.saved_position < %(before)s::bigint)
  and (%(task)s::text is null or p.task = %(task)s::text)
  and (%(tag)s::text is null or %(tag)s::text = any (p.tags))
  and (%(words)s::text is null or p.words @@ search_query(%(words)s::text))
order by p.saved_position desc
limit %(limit)s
