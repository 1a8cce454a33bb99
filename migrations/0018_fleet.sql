-- 0018 What operators do: hold pools and workers back, see who is alive, see everybody's jobs, delete files for good.

-- What takes no further job now. A row for each pool or worker that is paused or drained; resuming it removes the row.
create table views.holds (
  stream_id uuid not null,
  owner text not null,
  kind text not null,
  name text not null,
  hold text not null,
  reason text,
  actor text not null,
  since timestamptz not null,
  constraint holds_pkey primary key (stream_id),
  constraint holds_once unique (kind, name),
  constraint holds_kind_known check (kind in ('pool', 'worker')),
  constraint holds_hold_known check (hold in ('paused', 'drained'))
);
select views_secure('views.holds');

-- Who said lately that they work. Not history, and not in the ledger; without its rows workers are there again within
-- seconds. What stands here is what each worker says of itself, within bounds; times are this server's alone.
create table workers (
  name text not null,
  pools text[] not null,
  models jsonb not null,
  device text not null,
  version text not null,
  started_at timestamptz not null,
  idle_since timestamptz,
  heard_at timestamptz not null,
  constraint workers_pkey primary key (name)
);
create index workers_heard on workers (heard_at);
grant select on workers to darkroom_reader;
grant select, insert, update, delete on workers to darkroom_writer;

-- When a pool was last seen with a worker; what waits in it waits since then for one.
create table pools_seen (
  pool text not null,
  seen_at timestamptz not null,
  constraint pools_seen_pkey primary key (pool)
);
grant select on pools_seen to darkroom_reader;
grant select, insert, update, delete on pools_seen to darkroom_writer;

-- An asset that was purged keeps what was known of its file; its thumbnail goes with the file.
alter table views.assets
  drop constraint assets_status_known,
  drop constraint assets_completed_has_file,
  add constraint assets_status_known check (status in ('reserved', 'completed', 'failed', 'canceled', 'purged')),
  add constraint assets_completed_has_file check ((status in ('completed', 'purged')) = (sha256 is not null));

-- Everybody's jobs, newest first, for administrators.
create index jobs_in_order on views.jobs (queued_position desc);
