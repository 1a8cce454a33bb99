-- 0005 What a worker made of a job's prompt before it rendered: a person sees it beside the prompt that was asked for.
alter table views.jobs add column enhanced_prompt text;
