-- 0014 Least rights: a role for who reads, who writes the ledger, and who keeps the views. Whoever migrated may do all of
-- it, so one user for everything goes on. As darkroom_api, they are the server's, and without a password: where Postgres
-- asks for one, nobody logs in as them until they are given one. docs/least-rights.md says which service needs which.
do $$
declare
  wanted text;
begin
  foreach wanted in array array['darkroom_reader', 'darkroom_writer', 'darkroom_projector'] loop
    begin
      if not exists (select from pg_roles where rolname = wanted) then
        execute format('create role %I login', wanted);
      end if;
    exception
      when duplicate_object or unique_violation then
        null;  -- another database made it at this moment
      when insufficient_privilege then
        raise insufficient_privilege using message = format(
          'The user %1$I may not make the role %2$s: let an administrator of the server run '
          '`create role %2$s login; grant %2$s to %1$I;`', current_user, wanted);
    end;
  end loop;
end $$;

-- Who writes and who projects read as well; the API, which writes, may become the role that sees one owner's rows alone.
do $$
begin
  if not pg_has_role('darkroom_writer', 'darkroom_reader', 'usage') then
    grant darkroom_reader to darkroom_writer;
  end if;
  if not pg_has_role('darkroom_projector', 'darkroom_reader', 'usage') then
    grant darkroom_reader to darkroom_projector;
  end if;
  if not pg_has_role('darkroom_writer', 'darkroom_api', 'set') then
    grant darkroom_api to darkroom_writer with inherit false, set true;
  end if;
  if not pg_has_role(current_user, 'darkroom_projector', 'set') then
    execute format('grant darkroom_projector to %I', current_user);
  end if;
exception when insufficient_privilege then
  null;  -- the roles are somebody else's: then the tables stay with whoever migrates, who goes on as the one user
end $$;

grant usage on schema views to darkroom_reader;
grant usage, create on schema views, views_next, views_previous, views_as_of to darkroom_projector;

grant select on ledger, ledger_commits, ledger_commands, migrations, view_progress, parked_events to darkroom_reader;
grant select on api_keys to darkroom_writer;
grant select, insert, update, delete on leases, thumbnail_tries to darkroom_writer;
grant insert, update, delete on view_progress, parked_events to darkroom_projector;

-- The only way into the ledger: it runs as its maker, and nobody else may insert. The search path is fixed, so that no
-- table of the caller's can pass for ours.
do $$
begin
  execute format('alter function ledger_append set search_path = %I, pg_temp', current_schema());
end $$;
alter function ledger_append security definer;
revoke execute on function ledger_append from public;
grant execute on function ledger_append to darkroom_writer;

-- A live table belongs to who keeps the views: a rebuild moves it to another schema, which its owner alone may do. All its
-- rows are read by the services; each owner's by who acts for him, as before.
create function views_share(target regclass) returns void language plpgsql as $$
begin
  execute format('create policy of_services on %s for select to darkroom_reader using (true)', target);
  execute format('grant select on %s to darkroom_reader', target);
  if pg_has_role(current_user, 'darkroom_projector', 'set') then
    execute format('alter table %s owner to darkroom_projector', target);
  end if;
end $$;
revoke execute on function views_share from public;
grant execute on function views_share to darkroom_projector;

create or replace function views_secure(target regclass) returns void language plpgsql as $$
begin
  execute format('alter table %s enable row level security', target);
  execute format(
    'create policy of_owner on %s for select to darkroom_api '
    'using (owner = nullif(current_setting(''darkroom.owner'', true), ''''))', target);
  execute format('grant select on %s to darkroom_api', target);
  perform views_share(target);
end $$;
revoke execute on function views_secure from public;
grant execute on function views_secure to darkroom_projector;

select views_share(format('%I.%I', schemaname, tablename)::regclass)
from pg_tables where schemaname = 'views';

-- What earlier rebuilds left is dropped by the next one, whoever does it.
do $$
declare
  made record;
begin
  if pg_has_role(current_user, 'darkroom_projector', 'set') then
    for made in select schemaname, tablename from pg_tables
      where schemaname in ('views_next', 'views_previous', 'views_as_of') loop
      execute format('alter table %I.%I owner to darkroom_projector', made.schemaname, made.tablename);
    end loop;
  end if;
end $$;
