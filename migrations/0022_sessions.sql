-- 0022 Browsers sign in with a link that works once, and keep a session that ends. No view: as API keys, these are
-- configuration, and no rebuild may bring one back. Links and sessions are random, so their SHA-256 tells nothing of them.
--
-- `credential_sha256` is the token or API key for which a link was made. A session is worth as much as that credential is
-- at the moment: it ends with it.
create table sign_in_links (
  sha256 bytea not null,
  owner text not null,
  credential_sha256 bytea not null,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  used_at timestamptz,
  constraint sign_in_links_pkey primary key (sha256),
  constraint sign_in_links_sha256_whole check (length(sha256) = 32 and length(credential_sha256) = 32),
  constraint sign_in_links_end check (expires_at > created_at)
);

create table sessions (
  session_id uuid not null default uuidv7(),
  sha256 bytea not null,
  owner text not null,
  credential_sha256 bytea not null,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  ended_at timestamptz,
  constraint sessions_pkey primary key (session_id),
  constraint sessions_sha256_once unique (sha256),
  constraint sessions_sha256_whole check (length(sha256) = 32 and length(credential_sha256) = 32),
  constraint sessions_end check (expires_at > created_at)
);

grant select, insert, update, delete on sign_in_links, sessions to darkroom_writer;
