-- Each owner for himself: what the API reads of the views, it reads as a role that sees the rows of one owner alone.
-- The role is the server's, not this database's: another database of Darkroom on the same server may have made it, or
-- whoever runs the server. It has no password: where Postgres asks for one, nobody logs in as it until it is given one.
do $$
begin
  if not exists (select from pg_roles where rolname = 'darkroom_api') then
    create role darkroom_api login;
  end if;
exception
  when duplicate_object or unique_violation then
    null;  -- another database made it at this moment
  when insufficient_privilege then
    raise insufficient_privilege using message = format(
      'The user %1$I may not make the role darkroom_api: let an administrator of the server run '
      '`create role darkroom_api login; grant darkroom_api to %1$I;`', current_user);
end $$;

-- Whoever migrates may become that role: without a connection string of its own the API connects as the former and acts
-- as the latter.
do $$
begin
  if not pg_has_role(current_user, 'darkroom_api', 'set') then
    execute format('grant darkroom_api to %I with inherit false, set true', current_user);
  end if;
exception when insufficient_privilege then
  null;  -- then the API needs a connection string of its own, and says so when it starts
end $$;

grant usage on schema views to darkroom_api;

-- The rows of a table of the views belong to whom they say. Every new table of the views is given to this function, and
-- a rebuild gives it the tables that it fills: `like … including all` copies neither policies nor grants.
-- An owner that was never set is null, one that was taken back is empty: neither is anybody.
create function views_secure(target regclass) returns void language plpgsql as $$
begin
  execute format('alter table %s enable row level security', target);
  execute format(
    'create policy of_owner on %s for select to darkroom_api '
    'using (owner = nullif(current_setting(''darkroom.owner'', true), ''''))', target);
  execute format('grant select on %s to darkroom_api', target);
end $$;
revoke execute on function views_secure from public;

select views_secure(name::regclass)
from unnest(array['views.jobs', 'views.assets', 'views.workspace', 'views.library', 'views.history', 'views.queue',
  'views.performance']) as name;
