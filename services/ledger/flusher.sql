-- name: incarnation
-- The epoch, and whether the ledger has the last command that this process appended.
select (select epoch from epochs order by number desc limit 1),
  %(command_id)s::uuid is null or exists (select from ledger_commands where command_id = %(command_id)s::uuid)

-- name: stop
select ledger_stop(%s)
