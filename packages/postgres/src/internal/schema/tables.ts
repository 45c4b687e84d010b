/**
 * The tables of a store.
 *
 * `store` is one row, whose lock orders all writes. `entry` holds each key as it is now, `log` each write since the
 * compacted revision, and the last write before it of every key that exists. A key may be longer than an index of
 * Postgres allows, so the indexes hold the first kilobyte of it.
 *
 * Compaction has two steps. Reads and new watches before `compacted` are rejected at once. The log is cleaned up to
 * `cleanable`, which follows at least ten seconds later: open watches that are about to read it lose nothing.
 *
 * These are the tables of version 1: later versions change them by `upgrades`.
 */
export const tables = (schema: string): string => `
create table if not exists ${schema}.store (
  the_only boolean primary key default true check (the_only),
  revision bigint not null,
  compacted bigint not null,
  pending bigint not null,
  cleanable bigint not null,
  cleaned bigint not null,
  rotated_at timestamptz not null default clock_timestamp(),
  identity uuid not null default gen_random_uuid()
) with (fillfactor = 10);
insert into ${schema}.store (revision, compacted, pending, cleanable, cleaned) values (1, 0, 0, 0, 0) on conflict do nothing;

create table if not exists ${schema}.entry (
  key bytea not null,
  value bytea not null,
  create_revision bigint not null,
  mod_revision bigint not null,
  version bigint not null,
  lease bigint not null
) with (fillfactor = 70);
create index if not exists entry_key on ${schema}.entry (substring(key from 1 for 1024));
create index if not exists entry_lease on ${schema}.entry (lease) where lease <> 0;

create table if not exists ${schema}.log (
  revision bigint not null,
  sub integer not null,
  key bytea not null,
  value bytea not null,
  create_revision bigint not null,
  version bigint not null,
  lease bigint not null,
  request uuid,
  primary key (revision, sub)
);
create index if not exists log_key on ${schema}.log (substring(key from 1 for 1024), revision, sub);

create table if not exists ${schema}.lease (
  id bigint primary key,
  ttl bigint not null,
  expires_at timestamptz not null
) with (fillfactor = 70);
create index if not exists lease_expires_at on ${schema}.lease (expires_at);

create table if not exists ${schema}.void (
  request uuid primary key,
  created_at timestamptz not null default clock_timestamp()
);
`
