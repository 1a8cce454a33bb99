-- name: forget_links
delete from sign_in_links where expires_at < clock_timestamp() - interval '1 day'

-- name: add_link
insert into sign_in_links (sha256, owner, credential_sha256, expires_at)
values (%(sha256)s, %(owner)s, %(credential)s, clock_timestamp() + %(lasts)s)
returning expires_at

-- name: use_link
update sign_in_links set used_at = clock_timestamp()
where sha256 = %(sha256)s and used_at is null and expires_at > clock_timestamp()
returning owner, credential_sha256

-- name: forget_sessions
delete from sessions where expires_at < clock_timestamp() - interval '1 day'

-- name: add_session
insert into sessions (sha256, owner, credential_sha256, expires_at)
values (%(sha256)s, %(owner)s, %(credential)s, clock_timestamp() + %(lasts)s)

-- name: end_session
update sessions set ended_at = clock_timestamp() where sha256 = %(sha256)s and ended_at is null

-- name: working
select s.sha256, s.owner
from sessions s
where s.ended_at is null and s.expires_at > clock_timestamp()
  and (s.credential_sha256 = %(admin)s or exists (
    select from api_keys k where k.sha256 = s.credential_sha256 and k.owner = s.owner and k.revoked_at is null))

-- name: owners_of
-- A session of the administrator's token, or of a valid API key.
select s.sha256, s.owner
from sessions s
where s.sha256 = any (%(sha256s)s::bytea[]) and s.ended_at is null and s.expires_at > clock_timestamp()
  and (s.credential_sha256 = %(admin)s or exists (
    select from api_keys k where k.sha256 = s.credential_sha256 and k.owner = s.owner and k.revoked_at is null))
