-- What is derived from the ledger. Disposable: darkroom rebuild --all. The live tables are in the schema `views`; a rebuild
-- fills tables of the same names in `views_next` and swaps; what it replaced stays in `views_previous` for a rollback.
create schema views;
create schema views_next;
create schema views_previous;
create schema views_as_of;

-- How far each view has read the ledger; advanced in the transaction that changes the view.
create table view_progress (
  view text not null,
  slot text not null default 'live',
  position bigint not null default 0,
  constraint view_progress_pkey primary key (view, slot),
  constraint view_progress_slot_known check (slot in ('live', 'next'))
);

-- Events that a view could not take, and all later ones of the same stream; other streams go on.
create table parked_events (
  view text not null,
  slot text not null,
  stream_id uuid not null,
  position bigint not null,
  reason text not null,
  parked_at timestamptz not null default clock_timestamp(),
  constraint parked_events_pkey primary key (view, slot, position)
);

-- One row per job: what GET /v1/jobs shows.
create table views.jobs (
  job_id uuid not null,
  owner text not null,
  status text not null,
  pool text not null,
  recipe jsonb not null,
  job_type text not null,
  priority int not null,
  batch_id uuid,
  parent_id uuid,
  tags text[] not null,
  attempt int not null default 0,
  error jsonb,
  cancel_requested boolean not null default false,
  created_at timestamptz not null,
  started_at timestamptz,
  finished_at timestamptz,
  queued_position bigint not null,
  constraint jobs_pkey primary key (job_id),
  constraint jobs_status_known check (
    status in ('queued', 'processing', 'succeeded', 'partially_succeeded', 'failed', 'canceled', 'aborted')),
  constraint jobs_end_has_time check (
    (finished_at is not null) = (status not in ('queued', 'processing')))
);
create index jobs_of_owner on views.jobs (owner, queued_position desc);
create index jobs_by_end on views.jobs (finished_at) where finished_at is not null;

-- One row per asset, whatever became of it.
create table views.assets (
  asset_id uuid not null,
  job_id uuid not null,
  owner text not null,
  index int not null,
  seed bigint not null,
  kind text not null,
  bucket text not null,
  path text not null,
  status text not null,
  media_type text,
  bytes bigint,
  sha256 text,
  width int,
  height int,
  error jsonb,
  rating int,
  saved boolean not null default false,
  title text,
  tags text[] not null default '{}',
  trashed boolean not null default false,
  completed_at timestamptz,
  constraint assets_pkey primary key (asset_id),
  constraint assets_index_once unique (job_id, index),
  constraint assets_status_known check (status in ('reserved', 'completed', 'failed', 'canceled')),
  constraint assets_completed_has_file check ((status = 'completed') = (sha256 is not null))
);

-- What a person is looking at now: assets in progress or under review, until dismissed or trashed.
-- Rows come with job.queued (the job's facts) and are filled by asset.reserved.
create table views.workspace (
  asset_id uuid not null,
  job_id uuid not null,
  owner text not null,
  index int not null,
  prompt text not null,
  job_type text not null,
  model text not null,
  task text not null,
  batch_id uuid,
  seed bigint,
  kind text,
  bucket text,
  path text,
  status text not null,
  media_type text,
  bytes bigint,
  sha256 text,
  width int,
  height int,
  error jsonb,
  rating int,
  saved boolean not null default false,
  title text,
  tags text[] not null default '{}',
  dismissed boolean not null default false,
  trashed boolean not null default false,
  completed_at timestamptz,
  queued_position bigint not null,
  constraint workspace_pkey primary key (asset_id),
  constraint workspace_completed_has_file check ((status = 'completed') = (sha256 is not null))
);
create index workspace_of_owner on views.workspace (owner, queued_position desc, index)
  where not dismissed and not trashed and status <> 'canceled';

-- Completed assets, newest first; those still reserved wait here unseen for their completion.
create table views.library (
  asset_id uuid not null,
  job_id uuid not null,
  owner text not null,
  index int not null,
  prompt text not null,
  job_type text not null,
  model text not null,
  task text not null,
  batch_id uuid,
  seed bigint,
  kind text,
  bucket text,
  path text,
  status text not null,
  media_type text,
  bytes bigint,
  sha256 text,
  width int,
  height int,
  rating int,
  saved boolean not null default false,
  title text,
  tags text[] not null default '{}',
  trashed boolean not null default false,
  completed_at timestamptz,
  completed_position bigint,
  words tsvector generated always as (
    to_tsvector('simple', prompt || ' ' || coalesce(title, '')) || array_to_tsvector(tags)) stored,
  constraint library_pkey primary key (asset_id),
  constraint library_completed_has_file check ((status = 'completed') = (sha256 is not null))
);
create index library_of_owner on views.library (owner, completed_position desc)
  where status = 'completed' and not trashed;
create index library_words on views.library using gin (words);

-- Every event as people and programs read it, in ledger order.
create table views.history (
  position bigint not null,
  stream_id uuid not null,
  version bigint not null,
  type text not null,
  at timestamptz not null,
  actor text not null,
  owner text not null,
  correlation_id uuid not null,
  causation_id uuid,
  data jsonb not null,
  constraint history_pkey primary key (position)
);
create index history_of_stream on views.history (stream_id, version);
create index history_of_owner on views.history (owner, position);

-- Jobs that wait or run; a job that ended is not here.
create table views.queue (
  job_id uuid not null,
  owner text not null,
  pool text not null,
  job_type text not null,
  priority int not null,
  status text not null,
  attempt int not null default 0,
  worker text,
  cancel_requested boolean not null default false,
  not_before timestamptz,
  deadline timestamptz,
  queued_at timestamptz not null,
  started_at timestamptz,
  queued_position bigint not null,
  constraint queue_pkey primary key (job_id),
  constraint queue_status_known check (status in ('waiting', 'running')),
  constraint queue_running_has_worker check (status <> 'running' or (worker is not null and started_at is not null))
);
create index queue_order on views.queue (pool, priority desc, queued_position) where status = 'waiting';
create index queue_running on views.queue (started_at) where status = 'running';
create index queue_deadlines on views.queue (deadline) where deadline is not null and status = 'waiting';
