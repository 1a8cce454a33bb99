-- name: load_jobs
select job_id, owner, batch_id, quantity, prompt_sha256, model, job_type
from score_jobs where job_id = any (%s::uuid[]) or batch_id = any (%s::uuid[])

-- name: add_jobs
insert into score_jobs (job_id, owner, batch_id, quantity, prompt_sha256, model, job_type)
select job_id, owner, batch_id, quantity, prompt_sha256, model, job_type
from json_populate_recordset(null::score_jobs, %s::json)

-- name: load_ratings
select asset_id, score from score_ratings where asset_id = any (%s::uuid[])

-- name: store_ratings
insert into score_ratings (asset_id, owner, score)
select asset_id, owner, score from json_populate_recordset(null::score_ratings, %s::json)
on conflict (asset_id) do update set score = excluded.score

-- name: load_preferences
select one, other, winner
from score_preferences join unnest(%s::uuid[], %s::uuid[]) as wanted (one, other) using (one, other)

-- name: store_preferences
insert into score_preferences (one, other, owner, winner)
select one, other, owner, winner from json_populate_recordset(null::score_preferences, %s::json)
on conflict (one, other) do update set winner = excluded.winner

-- name: store_wins
insert into score_wins (owner, by, winner, loser, wins)
select owner, by, winner, loser, wins from json_populate_recordset(null::score_wins, %s::json)
on conflict (owner, by, winner, loser) do update set wins = excluded.wins

-- name: remove_wins
delete from score_wins w using json_populate_recordset(null::score_wins, %s::json) gone
where (w.owner, w.by, w.winner, w.loser) = (gone.owner, gone.by, gone.winner, gone.loser)

-- name: connected_wins
with recursive connected (owner, by, key) as (
  select owner, by, key from unnest(%s::text[], %s::text[], %s::text[]) as touched (owner, by, key)
  union
  select c.owner, c.by, met.key
  from connected c, lateral (
    select loser from score_wins where (owner, by, winner) = (c.owner, c.by, c.key)
    union all
    select winner from score_wins where (owner, by, loser) = (c.owner, c.by, c.key)
  ) as met (key)
)
select w.owner, w.by, w.winner, w.loser, w.wins
from connected c join score_wins w on (w.owner, w.by, w.winner) = (c.owner, c.by, c.key)

-- name: load_scores
select t.owner, t.by, t.key, to_json(t)::text
from scores t join unnest(%s::text[], %s::text[], %s::text[]) as wanted (owner, by, key) using (owner, by, key)

-- name: store_scores
insert into scores (
  owner, by, key, value, first_position, jobs, rated, distribution, mean, score, won, lost, strength, formula)
select owner, by, key, value, first_position, jobs, rated, distribution, mean, score, won, lost, strength, formula
from json_populate_recordset(null::scores, %s::json)
on conflict (owner, by, key) do update set
  first_position = excluded.first_position, jobs = excluded.jobs, rated = excluded.rated, distribution = excluded.distribution, mean = excluded.mean,
  score = excluded.score, won = excluded.won, lost = excluded.lost, strength = excluded.strength,
  formula = excluded.formula
