-- 0013 Who is next: what each owner waits for and was given, so that owners take turns and nobody reads a whole backlog.
-- The projector rebuilds the view `queue` when it starts with this version; until then nothing new is handed out.

-- What its owner is charged for a job: seconds that it is expected to take.
alter table views.queue add column cost_s double precision not null default 10;

drop index views.queue_order;
create index queue_line on views.queue (pool, priority desc, owner, queued_position) where status = 'waiting';

-- By pool, priority and owner: how many jobs wait, how long they are expected to take, how much the owner was given since
-- the first round (`used_s`), and where the round began that his last job was started in. See domain/fairness.py.
create table views.turns (
  pool text not null,
  priority int not null,
  owner text not null,
  waiting int not null,
  waiting_s double precision not null,
  used_s double precision not null,
  round_s double precision not null,
  constraint turns_pkey primary key (pool, priority, owner),
  constraint turns_waiting_counted check (waiting >= 0)
);
create index turns_round on views.turns (pool, priority, round_s desc);
create index turns_waiting on views.turns (pool) where waiting > 0;
select views_secure('views.turns');

-- How far the ledger was looked through for assets that ended without a file, in each pass of the sweeper. Not history:
-- without its rows everything is looked through again.
create table file_sweeps (
  pass int not null,
  position bigint not null,
  constraint file_sweeps_pkey primary key (pass)
);

-- What an administrator looks through: jobs that were given up, newest first.
create index jobs_dead on views.jobs (queued_position desc) where status = 'failed';
