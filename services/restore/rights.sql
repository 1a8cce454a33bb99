-- name: is_migrated
select to_regclass('migrations') is not null

-- name: lacking
-- Whether the schema exists without the roles, grants or policies of its migrations.
select exists (select from migrations where name = '0014_roles.sql') and (
  exists (
    select from unnest(array['darkroom_api', 'darkroom_reader', 'darkroom_writer', 'darkroom_projector']) as wanted
    where not exists (select from pg_roles where rolname = wanted))
  or exists (
    select from pg_tables t where t.schemaname = 'views' and not exists (
      select from pg_policies p
      where p.schemaname = 'views' and p.tablename = t.tablename and p.policyname = 'of_services'))
  or not exists (
    select from pg_class c, aclexplode(c.relacl) a join pg_roles r on r.oid = a.grantee
    where c.oid = to_regclass('ledger') and r.rolname = 'darkroom_reader')
)

-- name: rights
-- Every right of the schema, as the statement that grants it; owners first, since they grant the others.
with ours as (
  select oid, nspname from pg_namespace where nspname in (current_schema(), 'views', 'views_next', 'views_previous', 'views_as_of')
), tables as (
  select c.oid, c.relowner, c.relacl, c.relrowsecurity, format('%I.%I', n.nspname, c.relname) as name
  from pg_class c join ours n on n.oid = c.relnamespace
  where c.relkind = 'r' and n.nspname in (current_schema(), 'views')
), functions as (
  select p.oid, p.proacl, p.oid::regprocedure::text as name
  from pg_proc p join ours n on n.oid = p.pronamespace
  where not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
)
select statement from (
  select 1 as step, format('alter table %s owner to %I', t.name, r.rolname) as statement
  from tables t join pg_roles r on r.oid = t.relowner where r.rolname = 'darkroom_projector'
  union all
  select 2, format('alter table %s enable row level security', name) from tables where relrowsecurity
  union all
  select 3, format('grant %s on schema %I to %I', lower(a.privilege_type), s.nspname, r.rolname)
  from ours o join pg_namespace s on s.oid = o.oid, aclexplode(s.nspacl) a join pg_roles r on r.oid = a.grantee
  where r.rolname like 'darkroom\_%%'
  union all
  select 3, format('grant %s on table %s to %I', lower(a.privilege_type), t.name, r.rolname)
  from tables t, aclexplode(t.relacl) a join pg_roles r on r.oid = a.grantee
  where r.rolname like 'darkroom\_%%' and r.oid <> t.relowner
  union all
  select 3, format('revoke execute on function %s from public', name) from functions
  where proacl is not null and not exists (select from aclexplode(proacl) a where a.grantee = 0)
  union all
  select 4, format('grant execute on function %s to %I', f.name, r.rolname)
  from functions f, aclexplode(f.proacl) a join pg_roles r on r.oid = a.grantee
  where r.rolname like 'darkroom\_%%'
  union all
  select 5, format('create policy %I on %I.%I for %s to %s using (%s)', policyname, schemaname, tablename, lower(cmd),
    array_to_string(roles, ', '), qual)
  from pg_policies where schemaname = 'views'
) s
order by step, statement
