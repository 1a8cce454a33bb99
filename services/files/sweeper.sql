-- name: stretch
-- The last position that is old enough, by the clock that stamps commits.
select s.reached, coalesce((
  select max(next.last_position) from (
    select c.last_position, c.committed_at from ledger_commits c
    where c.last_position > s.reached order by c.last_position limit %(stride)s
  ) next
  where next.committed_at <= clock_timestamp() - make_interval(secs => %(after_s)s)), s.reached)
from (select coalesce((select position from file_sweeps where pass = %(pass)s), 0) as reached) s

-- name: ended_without_file
select distinct originator_id from ledger
where notification_id > %(reached)s and notification_id <= %(upto)s
  and (topic like 'asset.canceled.%%' or topic like 'asset.failed.%%' or topic like 'asset.purged.%%')

-- name: advance
insert into file_sweeps (pass, position) values (%(pass)s, %(upto)s)
on conflict (pass) do update set position = greatest(file_sweeps.position, excluded.position)
