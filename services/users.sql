-- name: add
insert into api_keys (owner, sha256) values (%(owner)s, %(sha256)s)
on conflict (owner) where revoked_at is null do nothing
returning (select count(*) from api_keys before where before.owner = %(owner)s) as keys_before, key_id

-- name: revoke
update api_keys set revoked_at = greatest(clock_timestamp(), created_at)
where owner = %(owner)s and revoked_at is null
returning revoked_at, key_id

-- name: last_of
select distinct on (owner) owner, created_at, revoked_at
from api_keys
where %(owner)s::text is null or owner = %(owner)s::text
order by owner, revoked_at desc nulls first

-- name: working
select sha256, owner from api_keys where revoked_at is null

-- name: owners_of
select sha256, owner from api_keys where sha256 = any (%(sha256s)s::bytea[]) and revoked_at is null

-- name: lock
-- Taken first, as appends do, so that the end of the user's stream cannot change afterwards.
select pg_advisory_xact_lock(hashtextextended('darkroom.ledger', 0))

-- name: version
select coalesce(max(originator_version), 0) from ledger where originator_id = %s
