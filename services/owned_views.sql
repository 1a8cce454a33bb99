-- name: of_owner
select set_config('darkroom.owner', %s, false)
