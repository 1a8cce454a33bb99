-- name: copy
copy history (position, stream_id, version, type, at, actor, owner, correlation_id, causation_id, data) from stdin
