-- name: files
select originator_id, topic, state from ledger
where regexp_replace(topic, '\.v[0-9]+$', '') in (
  'asset.reserved', 'asset.completed', 'asset.thumbnailed', 'asset.purged', 'media.uploaded', 'media.deleted')
order by notification_id
