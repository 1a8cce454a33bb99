What lacks a thumbnail is read from the view; what was tried is kept beside it.

-- name: claim
-- The oldest that is due, counted as tried before it is: what kills its process is not tried for ever, and of several
-- instances one gets it. A claim that a crash of Postgres takes along costs one try more, so nobody waits for the disk.
with due as (
  select a.asset_id, a.job_id, a.owner, a.kind, a.path, coalesce(t.tries, 0) as tries
  from views.assets a left join thumbnail_tries t using (asset_id)
  where a.status = 'completed' and a.thumbnail_sha256 is null
    and (t.asset_id is null or (t.tries < %(tries_max)s and t.next_try_at <= clock_timestamp()))
  order by a.completed_at, a.asset_id
  limit 1
), claimed as (
  insert into thumbnail_tries (asset_id, tries, next_try_at)
  select due.asset_id, due.tries + 1, clock_timestamp() + make_interval(secs => %(claim_s)s)
  from due, set_config('synchronous_commit', 'off', true)
  on conflict (asset_id) do update set tries = excluded.tries, next_try_at = excluded.next_try_at, reason = null
    where thumbnail_tries.next_try_at <= clock_timestamp()
  returning asset_id, tries
)
select due.asset_id, due.job_id, due.owner, due.kind, due.path, claimed.tries from claimed join due using (asset_id)

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
