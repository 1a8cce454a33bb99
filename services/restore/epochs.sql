-- name: epochs
select epoch, number, from_position, instead_of, replaced_stream from epochs order by number

-- name: stopped
select reason from ledger_stopped

-- name: stop
select ledger_stop(%s)
