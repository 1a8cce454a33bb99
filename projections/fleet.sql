-- name: load
select stream_id, to_json(t)::text from holds t where stream_id = any (%s::uuid[])

-- name: store
insert into holds (stream_id, owner, kind, name, hold, reason, actor, since)
select stream_id, owner, kind, name, hold, reason, actor, since from json_populate_recordset(null::holds, %s::json)
on conflict (stream_id) do update set
  hold = excluded.hold, reason = excluded.reason, actor = excluded.actor, since = excluded.since

-- name: remove
delete from holds where stream_id = any (%s::uuid[])
