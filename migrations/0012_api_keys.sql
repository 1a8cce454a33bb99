-- Who may speak to the API besides the administrator. No view: a credential is configuration, and no rebuild of anything
-- may bring back a key that was revoked. The key itself is nowhere: it is random, so its plain SHA-256 tells nothing of it.
create table api_keys (
  key_id uuid not null default uuidv7(),
  owner text not null,
  sha256 bytea not null,
  created_at timestamptz not null default clock_timestamp(),
  revoked_at timestamptz,
  constraint api_keys_pkey primary key (key_id),
  constraint api_keys_sha256_once unique (sha256),
  constraint api_keys_sha256_whole check (length(sha256) = 32),
  constraint api_keys_owner_named check (owner ~ '^[a-z0-9][a-z0-9_-]{0,62}$' and owner <> 'admin'),
  constraint api_keys_revoked_after_created check (revoked_at >= created_at)
);

-- One key at a time: whoever gets another has revoked the one before.
create unique index api_keys_one_live on api_keys (owner) where revoked_at is null;
