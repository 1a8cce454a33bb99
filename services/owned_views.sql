-- name: act
-- Plans are made for each query: which of a list's filters are set decides how it is best read. And by an index: nobody
-- reads through the rows of others, however much of a table is the owner's at this moment. A reader that is stopped lets go.
begin read only;
select set_config('role', {role}, true), set_config('darkroom.owner', {owner}, true),
  set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_seqscan', 'off', true),
  set_config('idle_in_transaction_session_timeout', '30s', true)

-- name: rights
-- Whoever may become the owner of the views, or a user that row-level security leaves alone, may read all of them.
select current_user::text,
  coalesce((select pg_has_role(oid, 'usage') from pg_roles where rolname = %(role)s), true) as is_member,
  coalesce((select pg_has_role(oid, 'set') from pg_roles where rolname = %(role)s), true) as may_act,
  exists (select from pg_roles where (rolsuper or rolbypassrls) and pg_has_role(oid, 'member'))
  or exists (
    select from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and (n.nspname = 'views' or (n.nspname = 'public' and c.relname = 'ledger'))
      and (pg_has_role(c.relowner, 'member') or (c.relname = 'ledger' and has_table_privilege(c.oid, 'select')))
  ) as sees_all
