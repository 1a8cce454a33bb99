-- name: rounds
select levels.priority, (
  select t.round_s from views.turns t
  where t.pool = %(pool)s and t.priority = levels.priority order by t.round_s desc limit 1)
from (select distinct priority from views.turns where pool = %(pool)s and waiting > 0) levels

-- name: at_work
select owner, count(*) from views.queue where status = 'running' group by owner

-- name: lines
select t.owner, t.priority, t.used_s, t.waiting, t.waiting_s, q.job_id, q.attempt, q.cost_s, q.queued_position
from views.turns t left join lateral (
  select q.job_id, q.attempt + 1 as attempt, q.cost_s, q.queued_position
  from views.queue q
  where q.status = 'waiting' and q.pool = t.pool and q.priority = t.priority and q.owner = t.owner
    and (not %(due)s or q.not_before is null or q.not_before <= clock_timestamp())
    and (not %(due)s or q.deadline is null or q.attempt > 0 or q.deadline > clock_timestamp())
    and (%(held_too)s or not exists (select from views.holds h where h.kind = 'pool' and h.name = %(pool)s))
    and not exists (
      select from unnest(%(job_ids)s::uuid[], %(attempts)s::int[]) as h (job_id, attempt)
      where h.job_id = q.job_id and h.attempt = q.attempt + 1)
  order by q.queued_position
  limit %(depth)s
) q on true
where t.pool = %(pool)s and t.waiting > 0
order by t.priority desc, t.owner, q.queued_position

-- name: handed_out
select q.owner, q.priority, q.cost_s
from unnest(%(job_ids)s::uuid[], %(attempts)s::int[]) as h (job_id, attempt)
  join views.queue q on q.job_id = h.job_id and q.attempt + 1 = h.attempt
where q.status = 'waiting' and q.pool = %(pool)s
order by q.queued_position
