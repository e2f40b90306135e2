-- The hub's state: everything here can be rebuilt from the log. One schema, created idempotently at start.
create schema if not exists hub;

-- How far a stage has come; compared and advanced in the batch's transaction, which fences a worker that lost its partition.
create table if not exists hub.position (
    stage text not null,
    topic text not null,
    partition int not null,
    next_offset bigint not null,
    processed bigint not null default 0,
    duplicates bigint not null default 0,
    parked bigint not null default 0,
    primary key (stage, topic, partition)
);

-- The order in which things were processed. A number is taken when all that its transaction touches is locked, so that of
-- two that concern one record the later has the greater.
create sequence if not exists hub.processed;

-- When a transaction processed what it did, in microseconds since 1970: the same for all of it.
create or replace function hub.moment() returns bigint language sql as $$
  select coalesce(nullif(current_setting('hub.moment', true), ''),
    set_config('hub.moment', (extract(epoch from clock_timestamp()) * 1000000)::bigint::text, true))::bigint
$$;

-- Every event that was processed, and where its payload stands. `also`: other records that it speaks of, of its object.
create table if not exists hub.event (
    event_id text primary key,
    topic text not null,
    partition int not null,
    "offset" bigint not null,
    system text not null,
    object text not null,
    external_id text not null,
    observed_at bigint not null,
    golden_id text
);
create index if not exists event_record on hub.event (system, object, external_id);
alter table hub.event add column if not exists processed bigint not null default nextval('hub.processed');
alter table hub.event add column if not exists also text[];
do $$ begin
  if not exists (select from information_schema.columns
                 where (table_schema, table_name, column_name) = ('hub', 'event', 'processed_at')) then
    alter table hub.event add column processed_at bigint;
    update hub.event set processed_at = observed_at;
  end if;
end $$;
create index if not exists event_also on hub.event using gin (also) where also is not null;

-- One record of one system: its claims, the view of what it holds, and the thing it belongs to. `home` is where it
-- was linked first and does not change with merges, so that an unmerge restores it.
create table if not exists hub.record (
    system text not null,
    object text not null,
    external_id text not null,
    entity text not null,
    golden_id text not null,
    home text not null,
    claims json not null default '{}',           -- json, for they are read and written whole: to make jsonb of them and
    view json not null default '{}',             -- text of that again costs more than all else that is done with them
    keys text[] not null default '{}',
    gone boolean not null default false,
    last_event text not null default '',
    primary key (system, object, external_id)
);
create index if not exists record_golden on hub.record (golden_id);
-- Compressing claims and views beyond 2 kB costs more than their place: they are read and written with every event.
alter table hub.record set (toast_tuple_target = 8160);
do $$ begin
  if (select data_type from information_schema.columns
      where (table_schema, table_name, column_name) = ('hub', 'record', 'claims')) = 'jsonb' then
    alter table hub.record alter column claims drop default, alter column view drop default;
    alter table hub.record alter column claims type json using claims::json, alter column view type json using view::json;
    alter table hub.record alter column claims set default '{}', alter column view set default '{}';
  end if;
end $$;

create table if not exists hub.golden (
    golden_id text primary key,
    entity text not null,
    version bigint not null,
    fields jsonb not null,
    deleted boolean not null default false,
    merged_into text,
    updated_at timestamptz not null default now()
);
create index if not exists golden_entity on hub.golden (entity);

-- Exact match keys: unique, so that two workers cannot make two things of one key.
create table if not exists hub.match_key (
    entity text not null,
    kind text not null,
    value text not null,
    golden_id text not null,
    primary key (entity, kind, value)
);
create index if not exists match_key_golden on hub.match_key (golden_id);

-- Pairs that a person has declared to be two things.
create table if not exists hub.apart (
    one text not null,
    other text not null,
    primary key (one, other)
);

-- For every captured change and every target exactly one outcome; null while it is on its way.
create table if not exists hub.ledger (
    event_id text not null,
    target text not null,
    golden_id text,
    version bigint,
    outcome text,
    reason text not null default '',
    primary key (event_id, target)
);
create index if not exists ledger_open on hub.ledger (target, golden_id) where outcome is null or outcome like 'held%' or outcome = 'parked';

create table if not exists hub.conflict (
    id bigint generated always as identity primary key,
    golden_id text not null,
    entity text not null,
    field text not null,
    event_id text not null,
    system text not null,
    object text not null,
    external_id text not null,
    value jsonb,
    base jsonb,
    golden jsonb,
    winner_event_id text not null default '',
    rule text not null,
    state text not null,
    at timestamptz not null default now(),
    unique (event_id, field)
);
create index if not exists conflict_open on hub.conflict (golden_id) where state = 'open';

-- The write queue: one row per target and golden record; a newer version replaces a waiting older one.
create table if not exists hub.write (
    target text not null,
    golden_id text not null,
    entity text not null,
    version bigint not null,
    state text not null default 'due',           -- due, held, parked
    due_at timestamptz not null default now(),
    lease text,                                  -- token of the deliverer at work on it, valid while that one lives
    attempts int not null default 0,             -- failed tries that count, see hub.failure
    failed_at timestamptz,                       -- of the last failed try, since the last success or new version
    waits_for text,
    held_since timestamptz,
    reason text not null default '',
    code text not null default '',
    fingerprint text not null default '',        -- of a parked row: groups refusals of one cause
    trace text,
    primary key (target, golden_id)
);
create index if not exists write_due on hub.write (target, due_at) where state = 'due';
create index if not exists write_waits on hub.write (target, waits_for) where state = 'held';

-- Deliverers that live; a token that is not renewed for some seconds has died, and its rows are anybody's again.
create table if not exists hub.lease (
    token text primary key,
    alive_until timestamptz not null
);

-- The circuit to each target. Closed: opened_at is null. Open until probe_at; then half open: whoever moves probe_at on
-- may try one write.
create table if not exists hub.breaker (
    target text primary key,
    failures int not null default 0,             -- calls in a row without a usable answer
    opened_at timestamptz,
    probe_at timestamptz,
    good_at timestamptz,                         -- when a call was last answered
    reason text not null default ''
);

create table if not exists hub.intent (
    key text not null,
    content text not null,                       -- of the values: a create tried anew may say other things than before
    target text not null,
    object text not null,
    golden_id text not null,
    external_id text,
    "values" jsonb not null,
    at timestamptz not null default now(),
    tries int not null default 1,                -- while it was open: an earlier one may have taken effect unanswered
    primary key (key, content)
);
create index if not exists intent_record on hub.intent (target, object, external_id);
create index if not exists intent_golden on hub.intent (target, golden_id);

-- What must be published once this transaction is committed (where the log is not in this database).
create table if not exists hub.outbox (
    id bigint generated always as identity primary key,
    topic text not null,
    key bytea not null,
    value bytea
);

create table if not exists hub.parked (
    id bigint generated always as identity primary key,
    stage text not null,
    topic text not null,
    partition int not null,
    "offset" bigint not null,
    reason text not null,
    fingerprint text not null,
    key bytea not null default '',
    payload bytea not null,
    at timestamptz not null default now(),
    unique (stage, topic, partition, "offset")
);

create table if not exists hub.checkpoint (
    system text not null,
    stream text not null,
    state jsonb not null,
    complete boolean not null default false,     -- whether a first read has come to its end
    polled_at timestamptz,                       -- when the last poll that reached the end began
    changes bigint not null default 0,
    error text,
    error_since timestamptz,
    primary key (system, stream)
);

-- Sources that a person has halted; a source without a row is read.
create table if not exists hub.source (
    system text not null,
    stream text not null,
    state text not null,                         -- paused, stopped
    reason text not null default '',
    since timestamptz not null default now(),
    alert_after interval not null,               -- halted for longer than this, it is an alert
    alerted boolean not null default false,
    primary key (system, stream)
);

-- Reading an object again while its stream is captured; the newest request for each object.
create table if not exists hub.snapshot (
    system text not null,
    stream text not null,
    object text not null,
    state text not null default 'running',       -- running, paused, stopped, done
    checkpoint jsonb,                            -- behind the last chunk whose rows are durable
    rate double precision not null,              -- rows a second, at most
    total bigint not null,                       -- rows expected, by what the hub knows of the object
    rows bigint not null default 0,              -- read and durable, or dropped
    dropped bigint not null default 0,           -- as a newer event of their record was there
    started_at timestamptz not null default now(),
    moved_at timestamptz,
    ended_at timestamptz,
    error text,
    primary key (system, object)
);

create table if not exists hub.pause (
    target text primary key,
    reason text not null,
    since timestamptz not null default now(),
    credentials text not null default ''         -- a salted hash of those that were refused
);

-- Alerts that were raised and not cleared, so that each is raised once.
create table if not exists hub.alarm (
    name text not null,
    subject text not null,
    since timestamptz not null default now(),
    primary key (name, subject)
);

create table if not exists hub.configuration (
    version text primary key,
    document json not null,                      -- in the order in which it was written, which matters
    at timestamptz not null default now()
);

create table if not exists hub.counter (
    name text not null,
    label text not null default '',
    value bigint not null default 0,
    primary key (name, label)
);

-- What hubs made before these columns were lack.
alter table hub.write add column if not exists failed_at timestamptz;
alter table hub.write add column if not exists held_since timestamptz;
alter table hub.write add column if not exists fingerprint text not null default '';
alter table hub.parked add column if not exists key bytea not null default '';
alter table hub.pause add column if not exists credentials text not null default '';
-- What came of a thing (a stream's changes, a system's near misses) in each period that was looked at; by it a source's habit
-- is known. `newest` is the newest clock among them, in microseconds.
create table if not exists hub.tally (
    kind text not null,
    name text not null,
    start double precision not null,
    n bigint not null,
    newest bigint,
    primary key (kind, name, start)
);

-- When each target was last written to: a source read since then has seen every echo that will come.
create table if not exists hub.activity (
    target text primary key,
    at timestamptz not null
);

-- Tokens of systems that the hub was authorized for, sealed. They alone cannot be rebuilt from the log: `hub auth` gives new
-- ones. A token is replaced only by the next generation.
create table if not exists hub.token (
    system text primary key,
    generation bigint not null,
    sealed bytea not null,
    expires_at timestamptz,
    at timestamptz not null default now()
);

-- One audit of one object: a sample, or all of it, held against what the hub knows. The newest few are kept.
create table if not exists hub.audit (
    id bigint generated always as identity primary key,
    system text not null,
    object text not null,
    mode text not null,                          -- sample, full
    state text not null,                         -- clean, drift, incomplete, waiting, approved, discarded, replaced
    reason text not null default '',
    known bigint not null default 0,             -- living records that the hub knew when it began
    read bigint not null default 0,              -- records that the system showed
    unsettled bigint not null default 0,         -- differences that may only be on their way
    deleted bigint not null default 0,           -- deletes that were captured
    repaired bigint not null default 0,          -- other records that were captured anew
    began timestamptz not null,
    ended timestamptz not null default now()
);
create index if not exists audit_latest on hub.audit (system, object, id desc);

-- What an audit found, record by record.
create table if not exists hub.drift (
    audit_id bigint not null references hub.audit on delete cascade,
    external_id text not null,
    kind text not null,                          -- missing, stale, extra
    fields text[] not null default '{}',
    primary key (audit_id, external_id)
);
-- What is known of a vendor's account and who calls it now: connectors.kit.allowance.State. Written some times a second
-- while an account is called; room on the page keeps these updates from growing the index.
create table if not exists hub.budget (
    account text primary key,
    state jsonb not null default '{}',
    nearly_used boolean not null default false,
    at timestamptz not null default now()
) with (fillfactor = 30);

-- Deployed configurations: `number` counts deployments, a version that is deployed again gets the next one.
alter table hub.configuration alter column document type json;
alter table hub.configuration add column if not exists number bigint not null default 0;
alter table hub.configuration add column if not exists author text not null default '';
alter table hub.configuration add column if not exists reason text not null default '';

-- The version in effect: one row. Whoever works by a configuration holds it shared while a batch lasts, so that none works
-- by another once it is replaced.
create table if not exists hub.deployed (
    one boolean primary key default true check (one),
    version text not null
);
-- The index of the past: what stands on the topics of identity, decisions and receipts, by what one asks for. Filled from
-- those topics alone (streams.past_index), so it can be emptied and filled again at any time.
create table if not exists hub.indexed (
    topic text not null,
    partition int not null,
    next_offset bigint not null,
    primary key (topic, partition)
);
create table if not exists hub.identity (
    partition int not null,
    "offset" bigint not null,
    at bigint not null,                          -- when it was put on the log
    kind text not null,                          -- link, merge, unmerge, move
    golden_id text not null,
    entity text not null,
    into_id text,
    system text,
    object text,
    external_id text,
    event_id text not null,                      -- what led to it: an event, or the key of the write that created a record
    reason text not null,
    primary key (partition, "offset")
);
create index if not exists identity_golden on hub.identity (golden_id);
create index if not exists identity_record on hub.identity (system, object, external_id) where external_id is not null;
create index if not exists identity_into on hub.identity (into_id) where into_id is not null;
create table if not exists hub.decision (
    event_id text not null,
    external_id text not null,
    "offset" bigint not null,                    -- the last one counts
    unsaid text[] not null,                      -- canonical fields that the event did not claim of this record
    echo boolean not null,
    primary key (event_id, external_id)
);
-- What a deployment decided anew stands beside what was decided first, which is what counted until then.
alter table hub.decision add column if not exists deployment bigint not null default 0;
do $$ begin
  if (select array_length(conkey, 1) from pg_constraint where conname = 'decision_pkey' and conrelid = 'hub.decision'::regclass) = 2 then
    alter table hub.decision drop constraint decision_pkey, add primary key (event_id, external_id, deployment);
  end if;
end $$;
create table if not exists hub.deployment (
    "offset" bigint primary key,
    version text not null,
    former text not null,
    author text not null,
    reason text not null,
    processed bigint not null,                   -- 0 of deployments from before they had numbers
    at bigint not null
);
create table if not exists hub.receipt (
    partition int not null,
    "offset" bigint not null,
    target text not null,
    object text not null,
    external_id text,
    golden_id text not null,
    key text not null,
    outcome text not null,
    processed bigint not null,                   -- 0 of receipts from before they had numbers
    at bigint not null,
    primary key (partition, "offset")
);
create index if not exists receipt_golden on hub.receipt (golden_id);
create index if not exists receipt_record on hub.receipt (target, object, external_id);
-- The rebuild under way, if there is one (see streams/rebuild.py): what it rebuilds, up to where it reads in bulk, and what
-- it has done. Not logged: after a crash of the database they are empty, and a rebuild begins anew.
create unlogged table if not exists hub.rebuild (
    one boolean primary key default true check (one),
    scope jsonb not null,                        -- what is rebuilt, under which configuration
    upto jsonb not null,                         -- positions of the project stage that the bulk ends at
    decided jsonb not null,                      -- ends of the decisions that the bulk knows
    since jsonb not null,                        -- from where decisions are read again for what comes after the bulk
    buckets int not null,
    directory text not null,
    began timestamptz not null default now()
);
create unlogged table if not exists hub.rebuild_step (
    name text primary key,
    value bigint not null
);
-- Golden records that a partial rebuild is about.
create unlogged table if not exists hub.rebuild_named (
    golden_id text primary key
);
-- Events that were folded after the bulk.
create unlogged table if not exists hub.rebuild_seen (
    event_id text primary key
);
create unlogged table if not exists hub.shadow_record (
    system text not null,
    object text not null,
    external_id text not null,
    entity text not null,
    golden_id text not null,
    home text not null,
    claims text not null,
    primary key (system, object, external_id)
);
create index if not exists shadow_record_golden on hub.shadow_record (golden_id);
create unlogged table if not exists hub.shadow_golden (
    golden_id text primary key,
    entity text not null,
    fields jsonb not null,
    deleted boolean not null
);
