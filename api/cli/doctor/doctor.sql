What the doctor asks Postgres. It changes nothing.

-- name: server
select current_setting('server_version_num')::int, extract(epoch from clock_timestamp())::float

-- name: applied
select name, sha256 from migrations

-- name: is_migrated
select to_regclass('migrations') is not null
