-- The ledger: every fact, once, in one order. The only source of truth; everything else can be rebuilt from it.
-- Columns are named as the eventsourcing library reads them: originator = stream, notification id = position.
create table ledger (
  originator_id uuid not null,
  originator_version bigint not null,
  topic text not null,
  state bytea not null,
  notification_id bigint not null,
  constraint ledger_pkey primary key (originator_id, originator_version),
  constraint ledger_position_unique unique (notification_id),
  constraint ledger_version_not_negative check (originator_version >= 0),
  constraint ledger_position_from_one check (notification_id >= 1)
);

-- One row per group commit: the hash of its events chained to the row before. What was changed later does not fit.
create table ledger_commits (
  last_position bigint not null,
  first_position bigint not null,
  committed_at timestamptz not null default clock_timestamp(),
  hash bytea not null,
  constraint ledger_commits_pkey primary key (last_position),
  constraint ledger_commits_not_empty check (first_position <= last_position),
  constraint ledger_commits_sha256 check (octet_length(hash) = 32)
);

-- Command ids already served, with the positions of their events: a commit whose answer was lost appends once.
create table ledger_commands (
  command_id uuid not null,
  first_position bigint not null,
  last_position bigint not null,
  constraint ledger_commands_pkey primary key (command_id)
);

create function ledger_is_append_only() returns trigger language plpgsql as $$
begin
  raise exception 'the ledger is append-only: % on % refused', tg_op, tg_table_name;
end $$;

create trigger ledger_append_only before update or delete or truncate on ledger
  for each statement execute function ledger_is_append_only();
create trigger ledger_commits_append_only before update or delete or truncate on ledger_commits
  for each statement execute function ledger_is_append_only();
create trigger ledger_commands_append_only before update or delete or truncate on ledger_commands
  for each statement execute function ledger_is_append_only();

-- The chain's link for the events of one group. Fixed-length parts, so no two groups give the same bytes.
create function ledger_link(previous bytea, first_in_group bigint, last_in_group bigint) returns bytea
language sql stable as $$
  select sha256(previous || string_agg(
    int8send(notification_id) || uuid_send(originator_id) || int8send(originator_version)
      || sha256(convert_to(topic, 'UTF8')) || sha256(state),
    ''::bytea order by notification_id))
  from ledger
  where notification_id between first_in_group and last_in_group
$$;

-- Appends a group of commits in one round trip. Each commit is judged by itself: one that conflicts is refused and the
-- others land; one whose command id was served before answers with its first positions and appends nothing.
--
-- Lock order: the advisory lock comes first and is held until the transaction ends, so positions are handed out in
-- commit order and no reader ever sees a gap that is filled later.
--
-- Events come in order of their commit (events_commit: 1, 1, 2, …). Usually nothing conflicts, and the whole group is
-- checked and inserted set-wise; only a group with a conflict is taken commit by commit. A lonely event, which is most of
-- what happens on a quiet system, needs no sets: five plain statements take half the time of the two set-wise ones.
--
-- Sequential scans are off because the plans are made once for a connection, when the tables may be all but empty, and
-- would then read ever more until the next analyze.
create function ledger_append(
  events_commit int[], events_stream uuid[], events_version bigint[], events_topic text[], events_state bytea[],
  commands uuid[],
  guards_commit int[], guards_stream uuid[], guards_version bigint[]
) returns table (commit_number int, verdict text, first_in_commit bigint, last_in_commit bigint)
language plpgsql set enable_seqscan = off as $$
declare
  head bigint;
  group_first bigint;
  previous bytea;
  served ledger_commands;
begin
  perform pg_advisory_xact_lock(hashtextextended('darkroom.ledger', 0));
  select c.last_position, c.hash into head, previous from ledger_commits c order by c.last_position desc limit 1;
  if not found then
    head := 0;
    previous := decode(repeat('00', 32), 'hex');
  end if;
  group_first := head + 1;

  if cardinality(events_stream) = 1 and cardinality(guards_stream) = 0 then
    if not exists (select from ledger_commands c where c.command_id = commands[1])
      and events_version[1] - 1 = (
        select coalesce(max(l.originator_version), case events_version[1] when 0 then -1 else 0 end)
        from ledger l where l.originator_id = events_stream[1])
    then
      insert into ledger (originator_id, originator_version, topic, state, notification_id)
        values (events_stream[1], events_version[1], events_topic[1], events_state[1], group_first);
      insert into ledger_commands (command_id, first_position, last_position)
        values (commands[1], group_first, group_first);
      insert into ledger_commits (last_position, first_position, hash)
        values (group_first, group_first, sha256(previous
          || int8send(group_first) || uuid_send(events_stream[1]) || int8send(events_version[1])
          || sha256(convert_to(events_topic[1], 'UTF8')) || sha256(events_state[1])));
      return query select 1, 'appended', group_first, group_first;
      return;
    end if;
  end if;

  -- Clean is a group whose commits all fit and of which none touches what another one writes. One expression and one
  -- statement: each more costs every commit ten microseconds.
  if not exists (select from ledger_commands c where c.command_id = any (commands))
    and (cardinality(commands) = 1 or (select count(distinct c) from unnest(commands) c) = cardinality(commands))
    and not exists (
      select from (
        select e.stream, min(e.before) as before, max(e.before) <> min(e.before) or min(e.commit) <> max(e.commit) as broken
        from (
          select u.commit, u.stream, u.version - row_number() over (partition by u.stream order by u.place) as before
          from unnest(events_commit, events_stream, events_version) with ordinality as u (commit, stream, version, place)
        ) e
        group by e.stream
      ) s
      where s.broken or s.before <> (
        select coalesce(max(l.originator_version), case s.before when -1 then -1 else 0 end)
        from ledger l where l.originator_id = s.stream)
    )
    and (cardinality(guards_stream) = 0 or not exists (
      select from unnest(guards_commit, guards_stream, guards_version) as g (commit, stream, version)
      where g.version <> (select coalesce(max(l.originator_version), 0) from ledger l where l.originator_id = g.stream)
        or exists (
          select from unnest(events_commit, events_stream) as e (commit, stream)
          where e.stream = g.stream and e.commit <> g.commit))) then
    return query
      with numbered as materialized (
        select e.commit, e.stream, e.version, e.topic, e.state, head + e.number as position
        from unnest(events_commit, events_stream, events_version, events_topic, events_state)
          with ordinality as e (commit, stream, version, topic, state, number)
      ), appended as (
        insert into ledger (originator_id, originator_version, topic, state, notification_id)
        select n.stream, n.version, n.topic, n.state, n.position from numbered n
      ), spans as (
        select n.commit, min(n.position) as first, max(n.position) as last from numbered n group by n.commit
      ), served_now as (
        insert into ledger_commands (command_id, first_position, last_position)
        select commands[s.commit], s.first, s.last from spans s
      ), linked as (
        insert into ledger_commits (last_position, first_position, hash)
        select max(n.position), group_first, sha256(previous || string_agg(
          int8send(n.position) || uuid_send(n.stream) || int8send(n.version)
            || sha256(convert_to(n.topic, 'UTF8')) || sha256(n.state), ''::bytea order by n.position))
        from numbered n having count(*) > 0
      )
      select s.commit, 'appended', s.first, s.last from spans s order by s.commit;
    return;
  end if;

  for number in 1 .. cardinality(commands) loop
    commit_number := number;
    select * into served from ledger_commands c where c.command_id = commands[number];
    if found then
      verdict := 'repeated';
      first_in_commit := served.first_position;
      last_in_commit := served.last_position;
    elsif ledger_commit_fits(number, events_commit, events_stream, events_version, guards_commit, guards_stream, guards_version) then
      insert into ledger (originator_id, originator_version, topic, state, notification_id)
        select e.stream, e.version, e.topic, e.state, head + row_number() over (order by e.place)
        from unnest(events_commit, events_stream, events_version, events_topic, events_state)
          with ordinality as e (commit, stream, version, topic, state, place)
        where e.commit = number;
      verdict := 'appended';
      first_in_commit := head + 1;
      select count(*) + head into head from unnest(events_commit) as e (commit) where e.commit = number;
      last_in_commit := head;
      insert into ledger_commands values (commands[number], first_in_commit, last_in_commit);
    else
      verdict := 'conflict';
      first_in_commit := null;
      last_in_commit := null;
    end if;
    return next;
  end loop;

  if head >= group_first then
    insert into ledger_commits (last_position, first_position, hash)
      values (head, group_first, ledger_link(previous, group_first, head));
  end if;
end $$;

-- Whether one commit fits the ledger as it is: each of its streams goes on where it ends, one version after the other
-- in the order of the events, and each guard still holds. `before` is the version that an event says it follows.
-- Streams of ours begin at version 1; what comes in by the eventsourcing library's own way may begin at 0.
create function ledger_commit_fits(
  number int, events_commit int[], events_stream uuid[], events_version bigint[],
  guards_commit int[], guards_stream uuid[], guards_version bigint[]
) returns boolean language sql stable as $$
  select not exists (
    select from (
      select e.stream, min(e.before) as before, max(e.before) <> min(e.before) as broken
      from (
        select u.stream, u.version - row_number() over (partition by u.stream order by u.place) as before
        from unnest(events_commit, events_stream, events_version) with ordinality as u (commit, stream, version, place)
        where u.commit = number
      ) e
      group by e.stream
    ) s
    where s.broken or s.before <> (
      select coalesce(max(l.originator_version), case s.before when -1 then -1 else 0 end)
      from ledger l where l.originator_id = s.stream)
  ) and not exists (
    select from unnest(guards_commit, guards_stream, guards_version) as g (commit, stream, version)
    where g.commit = number
      and g.version <> (select coalesce(max(l.originator_version), 0) from ledger l where l.originator_id = g.stream)
  )
$$;
