-- 0010 Prompts that their owners keep. Disposable: darkroom rebuild prompts. How often one was used, and how it was rated,
-- is in the rows of `scores` with its hash.
create table views.prompts (
  prompt_id uuid not null,
  owner text not null,
  title text not null,
  prompt text not null,
  prompt_sha256 text not null,
  negative_prompt text,
  model text not null,
  job_type text,
  task text not null,
  tags text[] not null,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  saved_position bigint not null,
  words tsvector generated always as (
    to_tsvector('simple', prompt || ' ' || title) || array_to_tsvector(tags)) stored,
  constraint prompts_pkey primary key (prompt_id)
);
create index prompts_of_owner on views.prompts (owner, saved_position desc);

select views_secure('views.prompts');
