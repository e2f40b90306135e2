-- The demo's CRM: an ordinary small schema, as an application would have made it. The hub adds nothing to these tables.
create table companies (
    id             serial primary key,
    name           text not null check (btrim(name) <> ''),
    domain         text,
    phone          text,
    industry       text,
    city           text,
    country        text,
    employees      integer check (employees >= 0),
    annual_revenue numeric(14, 2),
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now()
);

create table contacts (
    id            serial primary key,
    company_id    integer references companies on delete set null,
    email         text,
    first_name    text,
    last_name     text not null default '',
    phone         text,
    job_title     text,
    city          text,
    country       text,
    lifecycle     text,
    owner_email   text,
    email_consent text check (email_consent in ('in', 'out')),
    consent_at    timestamptz,
    tags          text[],
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now()
);
create index on contacts (lower(email));
create index on contacts (company_id);

create table deals (
    id         serial primary key,
    company_id integer references companies on delete set null,
    contact_id integer references contacts on delete set null,
    name       text not null,
    amount     numeric(14, 2) check (amount >= 0),
    currency   text check (currency ~ '^[A-Z]{3}$'),
    stage      text not null check (stage in ('new', 'qualified', 'presented', 'decision', 'contract', 'won', 'lost')),
    close_date date,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index on deals (company_id);
create index on deals (contact_id);

create table engagements (
    id               serial primary key,
    kind             text not null check (kind in ('note', 'call', 'email', 'meeting', 'task')),
    subject          text,
    body             text,
    occurred_at      timestamptz not null,
    status           text,
    duration_seconds integer check (duration_seconds >= 0),
    contact_id       integer references contacts on delete set null,
    company_id       integer references companies on delete set null,
    deal_id          integer references deals on delete set null,
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now()
);
create index on engagements (contact_id);
create index on engagements (company_id);
create index on engagements (deal_id);

create function touch() returns trigger language plpgsql as $$
begin
    new.updated_at := clock_timestamp();
    return new;
end
$$;

create trigger touch before update on companies for each row execute function touch();
create trigger touch before update on contacts for each row execute function touch();
create trigger touch before update on deals for each row execute function touch();
create trigger touch before update on engagements for each row execute function touch();
