-- 0025 What the worker of a job lost on the way: a person sees it with the job, as the warnings of its submission.
alter table views.jobs add column warnings jsonb;
