-- How long each running attempt is still believed alive. Renewed by heartbeats; not history, and not in the ledger.
-- Times are this server's alone: a worker with a wrong clock neither keeps nor loses its job.
create table leases (
  job_id uuid not null,
  attempt int not null,
  worker text not null,
  expires_at timestamptz not null,
  constraint leases_pkey primary key (job_id)
);
create index leases_by_expiry on leases (expires_at);
