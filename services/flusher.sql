-- name: append
select * from ledger_append(
  %b::int[], %b::uuid[], %b::bigint[], %b::text[], %b::bytea[], %b::uuid[], %b::int[], %b::uuid[], %b::bigint[])
