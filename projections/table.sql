Statements about any table of a view; `projections/table.py` fills in the columns.

-- name: load
select {key}, to_json(t)::text from (select {columns} from {table} where {key} = any (%s::uuid[])) t

-- name: insert
insert into {table} ({columns}) select {columns} from json_populate_recordset(null::{table}, %s::json)

-- name: store
insert into {table} ({columns}) select {columns} from json_populate_recordset(null::{table}, %s::json)
on conflict ({key}) do update set {changes}

-- name: remove
delete from {table} where {key} = any (%s::uuid[])

-- name: copy
copy {table} ({columns}) from stdin
