-- The event log in PostgreSQL. Safe to run again.
create schema if not exists hub_log;

create table if not exists hub_log.topic (
  id int generated always as identity primary key,
  name text not null unique,
  compacted boolean not null default false,
  retention interval
);

-- The row of a partition is its only appender's lock: held until the append's transaction ends, so that offsets are
-- given in commit order and a rolled back append leaves no gap.
create table if not exists hub_log.partition (
  id int generated always as identity primary key,
  topic_id int not null references hub_log.topic,
  number int not null,
  next_offset bigint not null default 0,
  unique (topic_id, number)
) with (fillfactor = 50);

create table if not exists hub_log.record (
  partition_id int not null,
  "offset" bigint not null,
  timestamp_us bigint not null,
  key bytea not null,
  value bytea,
  headers bytea,
  primary key (partition_id, "offset")
);

create table if not exists hub_log.consumer_group (
  id int generated always as identity primary key,
  name text not null unique
);

create table if not exists hub_log.position (
  group_id int not null references hub_log.consumer_group,
  partition_id int not null references hub_log.partition,
  next_offset bigint not null,
  primary key (group_id, partition_id)
) with (fillfactor = 50);

create table if not exists hub_log.schema (
  id int generated always as identity primary key,
  subject text not null,
  version int not null,
  fingerprint text not null,
  schema text not null,
  unique (subject, version),
  unique (subject, fingerprint)
);

-- Partitions are locked in the order of their ids, so that two appenders never wait for each other in a circle. Must run
-- under READ COMMITTED: the second statement has to see the counters as they are once the locks are held.
create or replace function hub_log.append(partitions int[], keys bytea[], vals bytea[], heads bytea[]) returns void
language plpgsql as $$
declare
  touched int[] := array(select distinct p from unnest(partitions) p);
begin
  perform from hub_log.partition where id = any(touched) order by id for update;
  insert into hub_log.record (partition_id, "offset", timestamp_us, key, value, headers)
    select n.partition_id, p.next_offset + row_number() over (partition by n.partition_id order by n.position) - 1,
           (extract(epoch from clock_timestamp()) * 1000000)::bigint, n.key, n.value, n.headers
    from unnest(partitions, keys, vals, heads) with ordinality n(partition_id, key, value, headers, position)
    join hub_log.partition p on p.id = n.partition_id;
  update hub_log.partition p set next_offset = p.next_offset + n.count
    from (select u.id, count(*) from unnest(partitions) u(id) group by u.id) n where n.id = p.id;
  -- A notification holds at most 8,000 bytes; an empty one wakes every reader.
  perform pg_notify('hub_log', case when cardinality(touched) <= 700 then array_to_string(touched, ',') else '' end);
end $$;
