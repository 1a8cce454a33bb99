-- `ledger_append` has three copies of the rule which commit fits, and of the chain's link: see migrations/README.md.
-- tests/services/ledger/test_rules_of_appends.py compares all copies.

-- name: append
select * from ledger_append(
  %b::int[], %b::uuid[], %b::bigint[], %b::text[], %b::bytea[], %b::uuid[], %b::int[], %b::uuid[], %b::bigint[])
