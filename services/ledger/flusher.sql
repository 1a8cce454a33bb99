-- `ledger_append` has three copies of the rule which commit fits, and of the chain's link: see migrations/README.md.
-- tests/services/ledger/test_rules_of_appends.py compares all copies.

-- name: append
select * from ledger_append(
  %b::int[], %b::uuid[], %b::bigint[], %b::text[], %b::bytea[], %b::uuid[], %b::int[], %b::uuid[], %b::bigint[])

-- name: incarnation
-- The epoch, and whether the ledger has the last command that this process appended.
select (select epoch from epochs order by number desc limit 1),
  %(command_id)s::uuid is null or exists (select from ledger_commands where command_id = %(command_id)s::uuid)

-- name: stop
select ledger_stop(%s)
