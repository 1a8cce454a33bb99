-- 0020 Search finds emoji and words of scripts without spaces, refuses what has no words, and jobs are found by tags.
-- Texts that are stored already get their words anew by the rebuild that the new versions of their views begin.

-- Symbols by their code point: arrows, signs, pictures, emoji. What joins or colours an emoji is no part of its word.
create function symbols_as_words(said text) returns text language sql immutable parallel safe
return case when said !~ '[\u00a2-\u00a9\u00ae\u20a0-\u20cf\u2190-\u2bff\u3030\u303d\U0001f000-\U0001fbff]' then said
  else (
    select string_agg(
      case when one ~ '[\u00a2-\u00a9\u00ae\u20a0-\u20cf\u2190-\u2bff\u3030\u303d\U0001f000-\U0001f3fa\U0001f400-\U0001fbff]'
        then ' u' || to_hex(ascii(one)) || ' ' else one end,
      '' order by place)
    from string_to_table(said, null) with ordinality as each (one, place)) end;

-- What is searched, written alike in texts and in queries: what stands between words is a space, also where Postgres would
-- see a host, a path or a mark-up tag (dusk.warm, black/white, <lora:fog>), and in every script; capitals are small, wide
-- letters narrow. Chinese, Japanese, Thai, Lao, Khmer and Burmese have no spaces: each of their characters is a word.
-- Symbols and emoji are words by their code point (u1f98a), for Postgres' parser leaves them out. Quotes and hyphens stay:
-- in a query they mean something.
create or replace function searchable(said text) returns text language sql immutable parallel safe
return case when octet_length(said) = char_length(said) then translate(said, './\@<>&:=~', '          ')
  else regexp_replace(
    regexp_replace(
      symbols_as_words(casefold(normalize(said, nfkc) collate pg_c_utf8)),
      '[^[:alnum:]"-]', ' ', 'g'),
    '([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])',
    ' \1 ', 'g') end;

-- A query as people type it (see websearch_to_tsquery), null for null. What holds no word that could be found, and what
-- Postgres' parser cannot take, is an error of the class that the API tells its users.
create function search_query(said text) returns tsquery language plpgsql immutable parallel safe as $$
declare
  asked tsquery;
begin
  if said is null then
    return null;
  end if;
  begin
    asked := websearch_to_tsquery('simple', searchable(said));
  exception when internal_error or statement_too_complex or program_limit_exceeded or syntax_error then
    asked := null;
  end;
  if asked is null or numnode(asked) = 0 then
    raise exception 'no word to search for' using errcode = 'DR422';
  end if;
  return asked;
end $$;

-- The jobs of the owner that the session stands for that carry a tag, newest first, below a position: as library_page,
-- and for the same reason, in two steps.
create index jobs_by_tag on views.jobs using gin (owner, tags);

create function jobs_tagged(
  wanted_tag text, wanted_status text, wanted_type text, wanted_batch uuid, before bigint, rows_max int)
returns table (job_id uuid)
language plpgsql stable security definer rows 50
set search_path = pg_catalog, pg_temp set enable_seqscan = off set max_parallel_workers_per_gather = 0
as $$
declare
  newest_max constant int := 1000;
  whose constant text := current_setting('darkroom.owner', true);
  filters constant text := concat(
    ' and tags @> array[$4]',
    case when wanted_status is not null then ' and status = $5' end,
    case when wanted_type is not null then ' and job_type = $6' end,
    case when wanted_batch is not null then ' and batch_id = $7' end);
  in_order constant text :=
    'from views.jobs where owner = $1 and queued_position < $2 order by queued_position desc';
  below bigint := coalesce(before, 9223372036854775807);
  found int;
begin
  return query execute
    'select job_id from (select * ' || in_order || ' limit ' || newest_max || ') newest where true' || filters
    || ' order by queued_position desc limit $3'
    using whose, below, rows_max, wanted_tag, wanted_status, wanted_type, wanted_batch;
  get diagnostics found = row_count;
  if found = rows_max then
    return;
  end if;
  execute 'select queued_position ' || in_order || ' offset ' || newest_max - 1 || ' limit 1'
    into below using whose, below;
  if below is null then
    return;
  end if;
  -- Without the order's index, by which Postgres would walk through everything: `+ 0` keeps it away.
  return query execute
    'select job_id from views.jobs where owner = $1 and queued_position + 0 < $2' || filters
    || ' order by queued_position + 0 desc limit $3'
    using whose, below, rows_max - found, wanted_tag, wanted_status, wanted_type, wanted_batch;
end $$;
revoke all on function jobs_tagged from public;
grant execute on function jobs_tagged to darkroom_api;
