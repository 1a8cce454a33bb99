-- 0008 Jobs that were submitted together: batches and comparisons with their items. Disposable: darkroom rebuild batches.
-- `counts` says how many items stand where; `words` is what a search finds a batch by: its name, collection and templates.
create table views.batches (
  batch_id uuid not null,
  owner text not null,
  kind text not null,
  name text not null,
  collection text,
  base text,
  prompt text,
  seed bigint,
  counts jsonb not null default '{}',
  words tsvector not null default '',
  created_at timestamptz not null,
  opened_position bigint not null,
  constraint batches_pkey primary key (batch_id),
  constraint batches_kind_known check (kind in ('batch', 'comparison'))
);
create index batches_of_owner on views.batches (owner, opened_position desc);
create index batches_of_collection on views.batches (owner, collection, opened_position desc)
  where collection is not null;

-- `jobs` are all that made the item, oldest first; the last one stands for it, and `status` is its. Rejected: no job.
create table views.batch_items (
  batch_id uuid not null,
  owner text not null,
  index int not null,
  template text,
  status text not null,
  job_id uuid,
  jobs uuid[] not null default '{}',
  problem jsonb,
  constraint batch_items_pkey primary key (batch_id, index),
  constraint batch_items_status_known check (
    status in ('queued', 'processing', 'succeeded', 'partially_succeeded', 'failed', 'canceled', 'aborted', 'rejected')),
  constraint batch_items_rejected_without_job check ((status = 'rejected') = (job_id is null))
);
create index batch_items_by_job on views.batch_items (job_id) where job_id is not null;

-- The latest preference of each pair of assets; `one` is the lower id of both.
create table views.batch_preferences (
  batch_id uuid not null,
  owner text not null,
  one uuid not null,
  other uuid not null,
  winner uuid not null,
  blind boolean not null,
  at timestamptz not null,
  position bigint not null,
  constraint batch_preferences_pkey primary key (batch_id, one, other),
  constraint batch_preferences_of_a_pair check (one < other and winner in (one, other))
);

select views_secure(name::regclass)
from unnest(array['views.batches', 'views.batch_items', 'views.batch_preferences']) as name;
