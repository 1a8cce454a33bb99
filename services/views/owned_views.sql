-- name: act
-- Plans are made per query, because the best one depends on the filters that are set. They use an index, so that no
-- query reads rows of other owners, whatever share of a table is the owner's. A stopped reader is disconnected.
begin read only;
select set_config('role', {role}, true), set_config('darkroom.owner', {owner}, true),
  set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_seqscan', 'off', true),
  set_config('idle_in_transaction_session_timeout', '30s', true)

-- name: rights
-- Owners of the views, and users exempt from row-level security, may read all of them.
select current_user::text,
  coalesce((select pg_has_role(oid, 'usage') from pg_roles where rolname = %(role)s), true) as is_member,
  coalesce((select pg_has_role(oid, 'set') from pg_roles where rolname = %(role)s), true) as may_act,
  exists (select from pg_roles where (rolsuper or rolbypassrls) and pg_has_role(oid, 'member'))
  or exists (
    select from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and (n.nspname = 'views' or (n.nspname = 'public' and c.relname = 'ledger'))
      and (pg_has_role(c.relowner, 'member') or (c.relname = 'ledger' and has_table_privilege(c.oid, 'select')))
  ) as sees_all
