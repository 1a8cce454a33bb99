-- What shows an asset at a glance: the thumbnail in the views, and how often making one was tried.
-- Without a rebuild: a ledger that was written before this holds no thumbnail, so null is right everywhere.
alter table views.assets
  add column thumbnail_sha256 text,
  add column thumbnail_path text,
  add column thumbnail_bytes bigint,
  add constraint assets_thumbnail_whole check (
    num_nulls(thumbnail_sha256, thumbnail_path, thumbnail_bytes) in (0, 3)),
  add constraint assets_thumbnail_of_file check (thumbnail_sha256 is null or status = 'completed');
create index assets_without_thumbnail on views.assets (completed_at, asset_id)
  where status = 'completed' and thumbnail_sha256 is null;

alter table views.workspace
  add column thumbnail_sha256 text,
  add column thumbnail_path text,
  add column thumbnail_bytes bigint;

alter table views.library
  add column thumbnail_sha256 text,
  add column thumbnail_path text,
  add column thumbnail_bytes bigint;

-- Tries at thumbnails that have not come to an end. Not history, and not in the ledger; without its rows everything that
-- lacks a thumbnail is simply tried anew. `reason` is why the last try failed; null while it runs, or when it killed its
-- process. Times are this server's alone.
create table thumbnail_tries (
  asset_id uuid not null,
  tries int not null,
  next_try_at timestamptz not null,
  reason text,
  constraint thumbnail_tries_pkey primary key (asset_id),
  constraint thumbnail_tries_from_one check (tries >= 1)
);
