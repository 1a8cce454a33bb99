-- 0026 The order of everybody's jobs, for administrators alone. As an index over `queued_position` it also served the
-- lists of one owner: Postgres then walked through the jobs of all owners to find the few of a rare type. No list of an
-- owner asks for this expression.
drop index views.jobs_in_order;
create index jobs_of_everybody on views.jobs ((-queued_position));
