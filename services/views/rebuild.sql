-- name: try_lock
-- Idle in its transaction for the whole rebuild; it holds no snapshot and no other lock.
select pg_try_advisory_xact_lock(hashtextextended('darkroom.rebuild.' || %s, 0)),
  set_config('idle_in_transaction_session_timeout', '0', true), set_config('transaction_timeout', '0', true)

-- name: is_there
select 1

-- name: forget_parked
delete from parked_events where view = %s and slot = %s

-- name: promote_parked
update parked_events set slot = 'live' where view = %s and slot = 'next'

-- name: begin_next
insert into view_progress (view, slot, version) values (%s, 'next', %s)
on conflict (view, slot) do update set position = 0, version = excluded.version

-- name: advance_next
update view_progress set position = %s where view = %s and slot = 'next'

-- name: promote_version
update view_progress set version = %s where view = %s and slot = 'live'

-- name: end_next
delete from view_progress where view = %s and slot = 'next'

-- name: register_live
insert into view_progress (view, slot, version) values (%s, 'live', %s) on conflict do nothing

-- name: live_versions
select view, version from view_progress where slot = 'live' and view = any(%s)

-- name: live_position
select position from view_progress where view = %s and slot = 'live'

-- name: hold_live
select position from view_progress where view = %s and slot = 'live' for update

-- name: create_table
create table {} (like {} including all)

-- name: create_temporary
create temporary table {} (like {} including all)

-- name: secure_table
select views_secure(%s::regclass)

-- name: analyzed_columns
-- Statistics of documents are not used, and their columns take longest.
select attname from pg_attribute
where attrelid = %s::regclass and attnum > 0 and not attisdropped and atttypid <> 'jsonb'::regtype
order by attnum

-- name: analyze_table
analyze {} ({})

-- name: drop_table
drop table if exists {}

-- name: move_table
alter table {} set schema {}

-- name: index_names
-- The indexes of a new table and those of its template, where Postgres chose other names.
with named as (
  select i.indrelid, c.relname::text as name,
    regexp_replace(pg_get_indexdef(i.indexrelid), '^CREATE (UNIQUE )?INDEX \S+ ON \S+ ', '\1') as definition
  from pg_index i join pg_class c on c.oid = i.indexrelid
)
select fresh.name, before.name
from named fresh join named before using (definition)
where fresh.indrelid = %s::regclass and before.indrelid = %s::regclass and fresh.name <> before.name

-- name: rename_index
alter index {} rename to {}

-- name: soon_or_never
select set_config('lock_timeout', %(ms)s, true)

-- name: lock_tables
lock table {} in access exclusive mode

-- name: snapshot
set transaction isolation level repeatable read
