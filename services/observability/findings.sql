-- name: bounds
select set_config('statement_timeout', %(ms)s, true), set_config('lock_timeout', %(ms)s, true)
