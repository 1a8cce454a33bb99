Assets without a thumbnail are read from the view; their tries have a table of their own.

-- name: claim
-- Claim the oldest due assets. The try is counted before it starts: an asset that kills its process is not tried
-- forever, and only one instance gets it. An asset that was tried before is claimed alone: it may have killed the last
-- process, and each asset claimed with it would lose a try. Losing a claim in a crash of Postgres costs one more try,
-- so commits do not wait for the disk.
with due as (
  select a.asset_id, a.job_id, a.owner, a.kind, a.path, a.completed_at, coalesce(t.tries, 0) as tries
  from views.assets a left join thumbnail_tries t using (asset_id)
  where a.status = 'completed' and a.thumbnail_sha256 is null
    and (t.asset_id is null or (t.tries < %(tries_max)s and t.next_try_at <= clock_timestamp()))
  order by a.completed_at, a.asset_id
  limit %(claims_max)s
), in_order as (
  select due.*, row_number() over so_far as place, max(tries) over so_far as tries_so_far
  from due window so_far as (order by completed_at, asset_id)
), claimed as (
  insert into thumbnail_tries (asset_id, tries, next_try_at)
  select o.asset_id, o.tries + 1, clock_timestamp() + make_interval(secs => %(claim_s)s)
  from in_order o, set_config('synchronous_commit', 'off', true)
  where o.place = 1 or o.tries_so_far = 0
  order by o.place
  on conflict (asset_id) do update set tries = excluded.tries, next_try_at = excluded.next_try_at, reason = null
    where thumbnail_tries.next_try_at <= clock_timestamp()
  returning asset_id, tries
)
select o.asset_id, o.job_id, o.owner, o.kind, o.path, claimed.tries
from claimed join in_order o using (asset_id) order by o.place

-- name: give_back
-- Claimed but not begun: only assets that were never tried are claimed together.
delete from thumbnail_tries where asset_id = any(%(asset_ids)s) and tries = 1

-- name: failed
update thumbnail_tries set
  tries = %(tries)s, next_try_at = clock_timestamp() + make_interval(secs => %(pause_s)s), reason = %(reason)s
where asset_id = %(asset_id)s

-- name: sweep
delete from thumbnail_tries t
where not exists (select from views.assets a where a.asset_id = t.asset_id and a.thumbnail_sha256 is null)

-- name: once_more
update thumbnail_tries set tries = %(tries_max)s - 1, next_try_at = clock_timestamp()
where tries >= %(tries_max)s and reason is not null
