-- name: store
-- The search index of a row is computed only where its text changed: it costs more than the rest of the row.
with given as materialized (
  select * from json_populate_recordset(null::library, %s::json)
), known as (
  update library l set {unsearched_changes}
  from given g
  where l.asset_id = g.asset_id and ({searched}) is not distinct from ({searched_given})
  returning l.asset_id
)
insert into library ({columns})
select {columns} from given g where not exists (select from known k where k.asset_id = g.asset_id)
on conflict (asset_id) do update set {changes}
