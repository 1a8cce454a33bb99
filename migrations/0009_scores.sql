-- 0009 What people think of what they made, by prompt, model and job type. Disposable: darkroom rebuild scores.
-- A view says which version of its code made its rows: one that another version made is rebuilt before it goes on.
alter table view_progress add column version int not null default 1;

-- What a job counts for: the hash stands for its prompt. A batch's jobs are found by the batch, for its preferences.
create table views.score_jobs (
  job_id uuid not null,
  owner text not null,
  batch_id uuid,
  quantity int not null,
  prompt_sha256 text not null,
  model text not null,
  job_type text not null,
  constraint score_jobs_pkey primary key (job_id)
);
create index score_jobs_of_batch on views.score_jobs (batch_id) where batch_id is not null;

-- The rating of each asset that counts: the latest.
create table views.score_ratings (
  asset_id uuid not null,
  owner text not null,
  score int not null,
  constraint score_ratings_pkey primary key (asset_id),
  constraint score_ratings_score_known check (score between 1 and 5)
);

-- Of each two assets the one that is preferred, as it was said last. `one` is the smaller id of the two.
create table views.score_preferences (
  one uuid not null,
  other uuid not null,
  owner text not null,
  winner uuid not null,
  constraint score_preferences_pkey primary key (one, other),
  constraint score_preferences_in_order check (one < other),
  constraint score_preferences_won_by_one_of_them check (winner in (one, other))
);

-- How often one prompt, model or job type was preferred to another one. What follows strengths follows these rows.
create table views.score_wins (
  owner text not null,
  by text not null,
  winner text not null,
  loser text not null,
  wins int not null,
  constraint score_wins_pkey primary key (owner, by, winner, loser),
  constraint score_wins_of_two check (winner <> loser),
  constraint score_wins_happened check (wins > 0)
);
create index score_wins_by_loser on views.score_wins (owner, by, loser);

-- What GET /v1/scores shows. `key` is the value itself, for a prompt its SHA-256; `distribution` counts ratings from 1
-- to 5; `strength` is null without a preference; `formula` made mean, score and strength.
create table views.scores (
  owner text not null,
  by text not null,
  key text not null,
  value text not null,
  first_position bigint not null,
  jobs int not null,
  rated int not null,
  distribution int[] not null,
  mean double precision,
  score double precision not null,
  won int not null,
  lost int not null,
  strength double precision,
  formula int not null,
  constraint scores_pkey primary key (owner, by, key),
  constraint scores_by_known check (by in ('prompt', 'model', 'job_type')),
  constraint scores_rated_has_mean check ((rated > 0) = (mean is not null)),
  constraint scores_preferred_has_strength check ((won + lost > 0) = (strength is not null))
);
create index scores_in_order on views.scores (owner, by, score desc, rated desc, first_position desc);

select views_secure(name::regclass)
from unnest(array['views.score_jobs', 'views.score_ratings', 'views.score_preferences', 'views.score_wins',
  'views.scores']) as name;
