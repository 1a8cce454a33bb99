-- 0006 What each job took beside what was expected. Disposable: darkroom rebuild performance.
-- One row per job from its submission on. `oldest_attempt` is the first attempt that made one of its assets: the ratio is
-- that of a job made in one go, since an attempt that went on where another stopped did only a part of the work.
create table views.performance (
  job_id uuid not null,
  owner text not null,
  job_type text not null,
  model text not null,
  pool text not null,
  quantity int not null,
  status text not null,
  attempts int not null default 0,
  oldest_attempt int,
  queued_at timestamptz not null,
  started_at timestamptz,
  last_started_at timestamptz,
  finished_at timestamptz,
  expected_s double precision,
  peak_memory_bytes bigint,
  wait_s double precision generated always as (date_part('epoch', started_at - queued_at)) stored,
  actual_s double precision generated always as (date_part('epoch', finished_at - last_started_at)) stored,
  ratio double precision generated always as (
    case when status = 'succeeded' and attempts = oldest_attempt
      then date_part('epoch', finished_at - last_started_at) / nullif(expected_s, 0) end) stored,
  constraint performance_pkey primary key (job_id),
  constraint performance_status_known check (
    status in ('queued', 'processing', 'succeeded', 'partially_succeeded', 'failed', 'canceled', 'aborted')),
  constraint performance_end_has_time check ((finished_at is not null) = (status not in ('queued', 'processing')))
);
create index performance_by_end on views.performance (finished_at) where finished_at is not null;
