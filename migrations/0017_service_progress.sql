-- 0017 What each running service did last, and what it waits for. Services write it every few seconds; it is not history,
-- may be emptied at any time, and is empty after a crash of Postgres until they write again.
create unlogged table service_progress (
  service text not null,
  process text not null,
  started_at timestamptz not null,
  said_at timestamptz not null,
  last_progress_at timestamptz not null,
  position bigint,
  code text,
  waits_for text,
  waits_since timestamptz,
  remedy text,
  facts jsonb not null default '{}',
  constraint service_progress_pkey primary key (service, process),
  constraint service_progress_wait_is_whole check (
    (waits_for is null) = (waits_since is null) and (waits_for is null) = (code is null))
);

-- Each service says how it is, those that otherwise only read as well.
grant select, insert, update, delete on service_progress to darkroom_reader;

-- A writer waits for the lock of the ledger for ten seconds at most: whoever asked then hears that it is held, instead of
-- waiting for as long as it is. The function says so itself, for a pooler may drop what a connection says.
alter function ledger_append set lock_timeout = '10s';
