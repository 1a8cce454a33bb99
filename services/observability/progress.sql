-- name: tell
-- Durations by the services' monotonic clocks become times of this server's clock: after that clock was changed, the
-- next report is correct again.
with present as materialized (select clock_timestamp() as at)
insert into service_progress (
  service, process, started_at, said_at, last_progress_at, position, code, waits_for, waits_since, remedy, facts)
select r.service, %(process)s, at - make_interval(secs => r.started_s), at, at - make_interval(secs => r.idle_s),
  r.position, r.code, r.waits_for, at - make_interval(secs => r.waits_s), r.remedy, r.facts
from present, jsonb_to_recordset(%(rows)s::jsonb) as r (
  service text, started_s float, idle_s float, position bigint, code text, waits_for text, waits_s float, remedy text,
  facts jsonb)
on conflict (service, process) do update set
  started_at = excluded.started_at, said_at = excluded.said_at, last_progress_at = excluded.last_progress_at,
  position = excluded.position, code = excluded.code, waits_for = excluded.waits_for,
  waits_since = excluded.waits_since, remedy = excluded.remedy, facts = excluded.facts

-- name: forget
-- Processes that were killed. A time far in the future was written before the clock was set back.
delete from service_progress
where said_at not between clock_timestamp() - interval '1 hour' and clock_timestamp() + interval '1 minute'

-- name: leave
delete from service_progress where process = %s
