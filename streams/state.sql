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

-- Every event that was processed, and where its payload stands.
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

-- One record of one system: its claims, the view of what it holds, and the thing it belongs to. `home` is where it
-- was linked first and does not change with merges, so that an unmerge restores it.
create table if not exists hub.record (
    system text not null,
    object text not null,
    external_id text not null,
    entity text not null,
    golden_id text not null,
    home text not null,
    claims jsonb not null default '{}',
    view jsonb not null default '{}',
    keys text[] not null default '{}',
    gone boolean not null default false,
    last_event text not null default '',
    primary key (system, object, external_id)
);
create index if not exists record_golden on hub.record (golden_id);

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
    attempts int not null default 0,
    waits_for text,
    reason text not null default '',
    code text not null default '',
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

create table if not exists hub.pause (
    target text primary key,
    reason text not null,
    since timestamptz not null default now()
);

create table if not exists hub.configuration (
    version text primary key,
    document jsonb not null,
    at timestamptz not null default now()
);

create table if not exists hub.counter (
    name text not null,
    label text not null default '',
    value bigint not null default 0,
    primary key (name, label)
);

-- When each target was last written to: a source read since then has seen every echo that will come.
create table if not exists hub.activity (
    target text primary key,
    at timestamptz not null
);
