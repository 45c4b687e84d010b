/**
 * The epochs of a store: its history between two moments at which writes may have been lost without a trace.
 *
 * A failover to a replica, a restored backup and a restarted server may lack the last writes, and soon pass the revision
 * that the lost ones had. So the first write that finds another server process, another timeline or another table begins
 * an epoch, with a random id, and records the revision before it. A client that knows a later revision of an earlier epoch
 * knows of writes that are lost. One whose epoch the store does not have knows another store.
 *
 * Reads need not look: until that first write, the revision itself tells.
 */

/** A random positive number. */
export const randomId =
  `(('x' || left(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint & 9223372036854775807)`

const timeline = `left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)`

/** Whether the row `s` of the store was last written by another server process, on another timeline or in another table. */
const isNewServer = `s.server_started is distinct from pg_postmaster_start_time()
    or s.timeline is distinct from ${timeline} or s.home is distinct from s.tableoid`

/**
 * Bounds the time in which the transaction ends, on PostgreSQL 17 and later, if the server does not already. A statement
 * commits when the message after it (Sync) arrives. A client that stops or dies in between would keep what it has locked:
 * it is neither idle in a transaction, nor executing a statement, so no other timeout applies.
 *
 * A function whose work may take long does that first: however long it takes, it is no sign of a dead client, and would
 * take as long when it is repeated.
 */
export const bounded =
  `if current_setting('transaction_timeout', true) = '0' then perform set_config('transaction_timeout', '15s', true); end if;`

/** An acknowledged write must survive a crash, whatever the database's own default. */
export const durable =
  `if current_setting('synchronous_commit') = 'off' then perform set_config('synchronous_commit', 'local', true); end if;`

/** The variables of `lockForWrite`, for `declare`. */
export const variablesOfWrite = `
  upcoming bigint;
  oldest bigint;
  is_new_server boolean;
  moment timestamptz;`

/**
 * The head of a function that writes. Locks the row of the store, takes the next revision as `upcoming`, and begins an
 * epoch if one is to begin; the variable `epoch` has the epoch then. `also` names a column of the row and its variable.
 *
 * `oldest` is the least revision that the client must have known: a request of one that knew less is void. `moment` is the
 * time at which leases are due.
 */
export const lockForWrite = (
  schema: string,
  epoch: string,
  also?: { readonly column: string; readonly variable: string }
): string =>
  `${durable}
  update ${schema}.store s set revision = s.revision + 1
  returning s.revision, s.epoch, ${also === undefined ? "" : `s.${also.column}, `}s.oldest_known, ${isNewServer}
  into upcoming, ${epoch}, ${also === undefined ? "" : `${also.variable}, `}oldest, is_new_server;
  if is_new_server then ${epoch} := ${schema}.begin_epoch(upcoming - 1); end if;
  moment := clock_timestamp();`

/** What a server that only reads reports: the code that Postgres itself uses for a write to it. */
export const readOnly = "25006"

/** Fails on a standby, as a write would. */
export const primaryOnly = `do $$ begin
  if pg_is_in_recovery() then raise exception 'the server is a standby' using errcode = '${readOnly}'; end if;
end $$`

export const epochTables = (schema: string): string => `
-- With a default that is not constant, the column would rewrite the table, and reads that wait for the upgrade would find
-- it empty.
alter table ${schema}.store add column if not exists epoch bigint;
update ${schema}.store set epoch = ${randomId} where epoch is null;
alter table ${schema}.store alter column epoch set default ${randomId}, alter column epoch set not null;
alter table ${schema}.store add column if not exists server_started timestamptz;
alter table ${schema}.store add column if not exists timeline text;
alter table ${schema}.store add column if not exists home oid;

create table if not exists ${schema}.epoch (
  number bigint primary key,
  id bigint not null unique,
  began_after bigint not null
);
insert into ${schema}.epoch (number, id, began_after) select 0, s.epoch, 0 from ${schema}.store s on conflict do nothing;

-- Roles that may use the store of version 1 may go on.
do $grants$
declare
  g record;
begin
  for g in
    select a.privilege_type as privilege, a.grantee from pg_catalog.pg_class c, aclexplode(c.relacl) a
    where c.oid = (select s.tableoid from ${schema}.store s) and a.grantee <> c.relowner
      and a.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
  loop
    execute format(
      'grant %s on %s to %s', g.privilege, (select x.tableoid::regclass from ${schema}.epoch x limit 1),
      case when g.grantee = 0 then 'public' else g.grantee::regrole::text end
    );
  end loop;
end $grants$;
`

export const epochFunctions = (schema: string): string => `
-- A restored dump writes the row of the store: the next write begins an epoch. Some dumps switch triggers off, by
-- session_replication_role, except those that are always enabled.
create or replace function ${schema}.restored() returns trigger
language plpgsql as $fn$
begin
  new.server_started := null;
  return new;
end $fn$;
create or replace trigger restored before insert on ${schema}.store for each row execute function ${schema}.restored();
alter table ${schema}.store enable always trigger restored;

-- A standby lags, so it may answer only the reads that allow it. True, or an error.
create or replace function ${schema}.primary_only() returns boolean
language plpgsql stable as $fn$
begin
  if pg_is_in_recovery() then
    raise exception 'the server is a standby' using errcode = '${readOnly}';
  end if;
  return true;
end $fn$;

-- Begins an epoch after a revision. The caller has locked the row of the store.
create or replace function ${schema}.begin_epoch(began_after bigint) returns bigint
language plpgsql as $fn$
declare
  fresh bigint := ${randomId};
begin
  insert into ${schema}.epoch (number, id, began_after)
  select coalesce(max(x.number), 0) + 1, fresh, begin_epoch.began_after from ${schema}.epoch x;
  update ${schema}.store s
  set epoch = fresh, server_started = pg_postmaster_start_time(), timeline = ${timeline}, home = s.tableoid;
  return fresh;
end $fn$;

-- Sets the revision of the store, whose row the caller has locked. Returns the epoch of the revision.
create or replace function ${schema}.advance(before bigint, after bigint, known bigint) returns bigint
language plpgsql as $fn$
begin
  ${durable}
  update ${schema}.store s set revision = after where not (${isNewServer});
  if found then return known; end if;
  known := ${schema}.begin_epoch(before);
  update ${schema}.store set revision = after;
  return known;
end $fn$;

-- Whether the history of the store holds a revision of an epoch.
create or replace function ${schema}.holds_revision(known bigint, seen bigint) returns boolean
language sql stable as $fn$
  select coalesce((
    select seen <= coalesce(
      (select min(later.began_after) from ${schema}.epoch later where later.number > x.number),
      (select s.revision from ${schema}.store s)
    )
    from ${schema}.epoch x where x.id = known
  ), false)
$fn$;
`
