-- name: add_items
-- The jobs of an item add up; the rest of it is replaced.
insert into batch_items ({items}) select {items} from json_populate_recordset(null::batch_items, %s::json)
on conflict (batch_id, "index") do update set
  template = excluded.template, status = excluded.status, job_id = excluded.job_id,
  jobs = batch_items.jobs || excluded.jobs, problem = excluded.problem

-- name: rename
update batches b set name = r.name
from unnest(%(batches)s::uuid[], %(names)s::text[]) as r (batch_id, name)
where b.batch_id = r.batch_id

-- name: move
update batch_items i set status = j.status
from unnest(%(jobs)s::uuid[], %(statuses)s::text[]) as j (job_id, status)
where i.job_id = j.job_id and i.status <> j.status
returning i.batch_id

-- name: count
update batches b set counts = c.counts
from (
  select batch_id, jsonb_object_agg(status, items) as counts
  from (
    select batch_id, status, count(*) as items from batch_items where batch_id = any (%s::uuid[]) group by batch_id, status
  ) s
  group by batch_id
) c
where b.batch_id = c.batch_id

-- name: index_words
update batches b set words = to_tsvector('simple', searchable(concat_ws(' ', b.name, b.collection, (
  select string_agg(distinct i.template, ' ') from batch_items i where i.batch_id = b.batch_id))))
where b.batch_id = any (%s::uuid[])
