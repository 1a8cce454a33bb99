-- name: lock
select pg_advisory_xact_lock(hashtextextended('darkroom.migrate', 0))

-- name: create
create table if not exists migrations (
  name text primary key,
  sha256 text not null,
  applied_at timestamptz not null default clock_timestamp()
)

-- name: applied
select name, sha256 from migrations

-- name: record
insert into migrations (name, sha256) values (%s, %s)
