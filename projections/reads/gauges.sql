Figures for operators, in addition to the lists that users read.

-- name: oldest_waiting
select pool, extract(epoch from %(now)s::timestamptz - min(queued_at))::float as oldest_s
from views.queue where status = 'waiting' group by pool

-- name: parked_by_view
select view, count(*) as events from parked_events where slot = 'live' group by view

-- name: leases
select case when expires_at > clock_timestamp() then 'live' else 'expired' end as state, count(*) as leases
from leases group by state
