-- name: register
insert into view_progress (view, slot, version) values (%s, %s, %s) on conflict do nothing

-- name: progress
select view, position, version from view_progress where slot = 'live' and view = any(%s) order by position, view

-- name: lock_progress
select view, position, version from view_progress where slot = 'live' and view = any(%s) order by view for update

-- name: advance
update view_progress set position = %s where slot = %s and view = any(%s)

-- name: any_parked
select from parked_events where slot = %s and view = any(%s) limit 1

-- name: parked_streams
select distinct stream_id from parked_events where view = %s and slot = %s

-- name: park
insert into parked_events (view, slot, stream_id, position, reason) values (%s, %s, %s, %s, %s) on conflict do nothing

-- name: parked
select stream_id from parked_events where view = %s and slot = %s group by stream_id order by min(position)

-- name: unpark
delete from parked_events where view = %s and slot = %s and stream_id = %s returning position

-- name: use_schema
-- A program that stops in the middle releases the checkpoint, and another one takes over.
select set_config('search_path', %s, true), set_config('timezone', 'UTC', true),
  set_config('idle_in_transaction_session_timeout', '60s', true)

-- name: checksum
select count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text from {} t
