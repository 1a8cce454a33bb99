-- name: load_jobs
select {jobs} from score_jobs where job_id = any (%s::uuid[]) or batch_id = any (%s::uuid[])

-- name: load_ratings
select asset_id, score from score_ratings where asset_id = any (%s::uuid[])

-- name: load_preferences
select one, other, winner
from score_preferences join unnest(%s::uuid[], %s::uuid[]) as wanted (one, other) using (one, other)

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
-- The value of a key, for example a long prompt, is never written again.
insert into scores ({scores}) select {scores} from json_populate_recordset(null::scores, %s::json)
on conflict (owner, by, key) do update set {counted}
