-- name: load_turns
with asked as (
  select * from unnest(%(pools)s::text[], %(priorities)s::int[], %(owners)s::text[]) as a (pool, priority, owner)
)
select to_json(t)::text from asked join turns t using (pool, priority, owner)
union
select to_json(leader)::text
from (select distinct pool, priority from asked) levels cross join lateral (
  select * from turns t where t.pool = levels.pool and t.priority = levels.priority order by t.round_s desc limit 1
) leader
