-- name: holds
select kind, name, hold, reason, actor, since from views.holds order by kind, name

-- name: hold_of_worker
select hold, reason from views.holds where kind = 'worker' and name = %s

-- name: announce
-- Delete workers that were silent for long, and the oldest of this worker's user beyond the maximum.
with gone as (
  delete from workers w where w.name <> %(name)s and (
    w.heard_at < clock_timestamp() - make_interval(secs => %(kept_s)s)
    or w.name in (
      select name from workers where split_part(name, '.', 1) = %(user)s and name <> %(name)s
      order by heard_at desc offset %(of_user_max)s - 1))
), seen as (
  insert into pools_seen (pool, seen_at)
  select pool, clock_timestamp() from unnest(%(known_pools)s::text[]) as p (pool)
  on conflict (pool) do update set seen_at = excluded.seen_at
)
insert into workers (name, pools, models, device, version, started_at, idle_since, heard_at)
select %(name)s, %(pools)s::text[], %(models)s::jsonb, %(device)s, %(version)s,
  clock_timestamp() - make_interval(secs => %(up_s)s), clock_timestamp() - make_interval(secs => %(idle_s)s),
  clock_timestamp()
from set_config('synchronous_commit', 'off', true)
on conflict (name) do update set
  pools = excluded.pools, models = excluded.models, device = excluded.device, version = excluded.version,
  -- The start is computed from a duration at each announcement; a difference caused by message delay is ignored.
  started_at = case when abs(date_part('epoch', excluded.started_at - workers.started_at)) < 5
    then workers.started_at else excluded.started_at end,
  idle_since = case when abs(date_part('epoch', excluded.idle_since - workers.idle_since)) < 5
    then workers.idle_since else excluded.idle_since end,
  heard_at = excluded.heard_at

-- name: leave
delete from workers where name = %(name)s

-- name: workers
-- All workers that were heard of or are held, with their job according to the ledger.
select coalesce(w.name, h.name) as name, w.pools, w.models, w.device, w.version, w.started_at, w.idle_since, w.heard_at,
  coalesce(w.heard_at > clock_timestamp() - make_interval(secs => %(alive_s)s), false) as is_alive,
  h.hold, h.reason as hold_reason, h.actor as held_by, h.since as held_since,
  q.job_id, q.owner as job_owner, q.attempt, q.job_type, q.pool as job_pool, q.started_at as job_started_at,
  q.cost_s as job_cost_s, extract(epoch from clock_timestamp() - q.started_at)::float as job_elapsed_s
from workers w
  full join (select * from views.holds where kind = 'worker') h on h.name = w.name
  left join lateral (
    select * from views.queue q
    where q.status = 'running' and q.worker = coalesce(w.name, h.name) order by q.started_at desc limit 1) q on true
order by name

-- name: pools
-- `workers`: the number that are alive, not held, and serve the pool.
select p.pool,
  (select count(*) from workers w
    where p.pool = any (w.pools) and w.heard_at > clock_timestamp() - make_interval(secs => %(alive_s)s)
      and not exists (select from views.holds h where h.kind = 'worker' and h.name = w.name)) as workers,
  s.seen_at as last_seen_at,
  h.hold, h.reason as hold_reason, h.actor as held_by, h.since as held_since
from unnest(%(pools)s::text[]) as p (pool)
  left join pools_seen s using (pool)
  left join views.holds h on h.kind = 'pool' and h.name = p.pool
order by p.pool
