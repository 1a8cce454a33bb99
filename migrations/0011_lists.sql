-- 0011 Lists that stay quick over 100,000 assets: an index for each way of asking, the library's filters in one function.

create extension if not exists btree_gin;

-- What is searched, written alike in texts and in queries: what stands between words is a space, also where Postgres would
-- see a host, a path or a mark-up tag (dusk.warm, black/white, <lora:fog>), and in every script; capitals are small, wide
-- letters narrow. Chinese and Japanese have no spaces: each of their characters is a word. Quotes and hyphens stay: in a
-- query they mean something.
create function searchable(said text) returns text language sql immutable parallel safe
return case when octet_length(said) = char_length(said) then translate(said, './\@<>&:=~', '          ')
  else regexp_replace(
    regexp_replace(casefold(normalize(said, nfkc) collate pg_c_utf8), '[^[:alnum:]"-]', ' ', 'g'),
    '([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])', ' \1 ', 'g') end;

create function words_of(prompt text, title text, tags text[]) returns tsvector language sql immutable parallel safe
return to_tsvector('simple', searchable(prompt || ' ' || coalesce(title, '') || ' ' || array_to_string(tags, ' ')));

alter table views.library alter column words set expression as (words_of(prompt, title, tags));
alter table views.prompts alter column words set expression as (words_of(prompt, title, tags));

-- Words and filters of the library in one index: what is common in one of them is skipped by what is rare in another.
drop index views.library_words;
create index library_filters on views.library using gin (owner, words, tags, kind, model, saved, rating)
  where status = 'completed';
create index library_trash on views.library (owner, completed_position desc) where status = 'completed' and trashed;

create index jobs_by_status on views.jobs (owner, status, queued_position desc);
create index jobs_by_type on views.jobs (owner, job_type, queued_position desc);
create index jobs_of_batch on views.jobs (owner, batch_id, queued_position desc) where batch_id is not null;

-- The page of the library below a position, newest first, of the owner that the session stands for. It runs as its maker:
-- under row-level security no index would serve words and tags, whose operators Postgres does not trust with the rows of
-- others. So it asks for the owner itself, and says nothing but which assets; the caller reads those as the owner.
--
-- The newest thousand are looked through in order, which finds a full page of whatever is common at once. What is rarer is
-- fetched by the index over the filters, and then put in order; `trashed::int` is there to keep Postgres from the index
-- that has the order, by which it would walk through everything. The table is named at run time: a rebuild swaps it.
create function library_page(
  wanted_kind text, wanted_saved boolean, wanted_tag text, wanted_words tsquery, least_rating int, wanted_model text,
  in_trash boolean, before bigint, rows_max int)
returns table (asset_id uuid, completed_position bigint)
language plpgsql stable security definer rows 50
set search_path = pg_catalog, pg_temp set enable_seqscan = off set max_parallel_workers_per_gather = 0
as $$
declare
  newest_max constant int := 1000;
  whose constant text := current_setting('darkroom.owner', true);
  filters constant text := concat(
    case when wanted_kind is not null then ' and kind = $4' end,
    case when wanted_saved is not null then ' and saved = $5' end,
    case when wanted_tag is not null then ' and tags @> array[$6]' end,
    case when wanted_words is not null then ' and words @@ $7' end,
    case when least_rating is not null then ' and rating >= $8' end,
    case when wanted_model is not null then ' and model = $9' end);
  completed constant text := 'from views.library where owner = $1 and status = ''completed'' and completed_position < $2';
  in_order constant text := completed || case when in_trash then ' and trashed' else ' and not trashed' end
    || ' order by completed_position desc';
  below bigint := coalesce(before, 9223372036854775807);
  found int;
begin
  return query execute
    'select asset_id, completed_position from (select * ' || in_order || ' limit ' || newest_max || ') newest where true'
    || filters || ' order by completed_position desc limit $3'
    using whose, below, rows_max, wanted_kind, wanted_saved, wanted_tag, wanted_words, least_rating, wanted_model;
  get diagnostics found = row_count;
  if found = rows_max then
    return;
  end if;
  execute 'select completed_position ' || in_order || ' offset ' || newest_max - 1 || ' limit 1'
    into below using whose, below;
  if below is null then
    return;
  end if;
  return query execute
    'select asset_id, completed_position ' || completed || ' and trashed::int = ' || in_trash::int || filters
    || ' order by completed_position desc limit $3'
    using whose, below, rows_max - found, wanted_kind, wanted_saved, wanted_tag, wanted_words, least_rating, wanted_model;
end $$;
revoke all on function library_page from public;
grant execute on function library_page to darkroom_api;
