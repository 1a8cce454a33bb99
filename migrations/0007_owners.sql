-- Each owner for himself: what the API reads of the views, it reads as a role that sees the rows of one owner alone.
-- The role is the server's, not this database's: another database of Darkroom on the same server may have made it.
do $$
begin
  create role darkroom_api login;
exception when duplicate_object or unique_violation then
  null;
end $$;

-- Whoever migrates may act as that role: without a DSN of its own the API connects as the former and becomes the latter.
do $$
begin
  execute format('grant darkroom_api to %I', current_user);
exception when invalid_grant_operation then
  null;  -- it is itself
end $$;

grant usage on schema views to darkroom_api;

-- The rows of a table of the views belong to whom they say. Every new table of the views is given to this function, and
-- a rebuild gives it the tables that it fills: `like … including all` copies neither policies nor grants.
create function views_secure(target regclass) returns void language plpgsql as $$
begin
  execute format('alter table %s enable row level security', target);
  execute format(
    'create policy of_owner on %s for select to darkroom_api using (owner = current_setting(''darkroom.owner'', true))',
    target);
  execute format('grant select on %s to darkroom_api', target);
end $$;

select views_secure(name::regclass)
from unnest(array['views.jobs', 'views.assets', 'views.workspace', 'views.library', 'views.history', 'views.queue',
  'views.performance']) as name;
