-- 0016 Incarnations of the ledger. An older backup of Postgres hands out positions again that others have already seen, so
-- each restore begins a new epoch: what LEDGER and the ids in the event streams of clients carry.
create table epochs (
  epoch uuid not null default gen_random_uuid(),
  number int not null,
  -- The first position that may hold another event than it did in the epoch before.
  from_position bigint not null,
  began_at timestamptz not null default clock_timestamp(),
  reason text not null,
  -- The epoch that LEDGER carried when this one began; it may be one that the backup did not know.
  instead_of uuid,
  -- When that LEDGER stream was made, if it holds other events than the ledger: the relay makes it anew. Null: it goes on.
  replaced_stream text,
  constraint epochs_pkey primary key (epoch),
  constraint epochs_in_order unique (number),
  constraint epochs_from_one check (from_position >= 1)
);
create trigger epochs_append_only before update or delete or truncate on epochs
  for each statement execute function ledger_is_append_only();

insert into epochs (number, from_position, reason) values (0, 1, 'first');

-- Why nothing may be appended, while that is so: one row or none.
create table ledger_stopped (
  only_row boolean not null default true,
  reason text not null,
  stopped_at timestamptz not null default clock_timestamp(),
  constraint ledger_stopped_pkey primary key (only_row),
  constraint ledger_stopped_only_row check (only_row)
);

create function ledger_refuse() returns trigger language plpgsql as $$
begin
  raise exception using errcode = 'DR001', message = coalesce(
    (select reason from ledger_stopped), 'Writes to the ledger are stopped; run `darkroom restored`.');
end $$;

-- Disabled, it costs an append nothing. Enabled, it stops every process at once, whatever that process knows.
create trigger ledger_stop before insert on ledger for each statement execute function ledger_refuse();
alter table ledger disable trigger ledger_stop;

-- Stops writes until `darkroom restored` lets them go on; the first reason stays. It waits for appends that are under way.
create function ledger_stop(why text) returns void language plpgsql security definer as $$
begin
  insert into ledger_stopped (reason) values (why) on conflict do nothing;
  if found then
    alter table ledger enable trigger ledger_stop;
  end if;
end $$;
do $$
begin
  execute format('alter function ledger_stop set search_path = %I, pg_temp', current_schema());
  execute format('alter function ledger_refuse set search_path = %I, pg_temp', current_schema());
end $$;

-- The relay, which reads, finds out; stopping writes is the safe side.
revoke execute on function ledger_stop from public;
grant execute on function ledger_stop to darkroom_reader;
grant select on epochs, ledger_stopped to darkroom_reader;
