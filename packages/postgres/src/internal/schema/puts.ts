/**
 * The function for the most frequent write: puts without conditions, of one key or of a batch of distinct keys.
 *
 * The same as `write` does for a transaction of such puts, in as few statements as possible: each costs more than what it
 * does.
 *
 * `seen` is the revision that the client knows, 0 if it knows none. The row has the kind of the last item of `write`, and
 * the position of the store.
 */
import { bounded, lockForWrite, variablesOfWrite } from "./epochs.ts"
import { kind } from "./items.ts"
import { joinSettings } from "./settings.ts"

export const puts = (schema: string, channel: string): string => `
create or replace function ${schema}.put_entries(ks bytea[], vs bytea[], sender uuid, seen bigint)
returns table (o_kind smallint, o_revision bigint, o_epoch bigint)
language plpgsql ${joinSettings} as $fn$
#variable_conflict use_column
declare${variablesOfWrite}
  k bytea := ks[1];
  v bytea := vs[1];
  size integer := cardinality(ks);
  is_void boolean;
  is_due boolean := false;
  created bigint;
  versions bigint;
  keys text;
begin
  ${lockForWrite(schema, "o_epoch")}
  if size = 1 and seen >= oldest then
    -- A key that exists, when nothing else is due, is overwritten by the same statement that finds this out.
    update ${schema}.entry x set value = v, mod_revision = upcoming, version = x.version + 1, lease = 0
    where substring(x.key from 1 for 1024) = substring(k from 1 for 1024) and x.key = k
      and not exists (select from ${schema}.void y where y.request = sender)
      and not exists (select from ${schema}.lease y where y.expires_at <= moment)
    returning x.create_revision, x.version into created, versions;
  end if;
  if versions is null then
    select exists (select from ${schema}.void x where x.request = sender),
      exists (select from ${schema}.lease x where x.expires_at <= moment)
    into is_void, is_due;
    if is_void or (seen >= oldest) is not true then
      ${bounded}
      o_kind := ${kind.void}; o_revision := upcoming - 1;
      update ${schema}.store set revision = upcoming - 1;
      return next; return;
    end if;
    if is_due then
      upcoming := ${schema}.expire(upcoming - 1) + 1;
      update ${schema}.store set revision = upcoming;
    end if;
  end if;
  if size = 1 then
    if is_due then
      update ${schema}.entry x set value = v, mod_revision = upcoming, version = x.version + 1, lease = 0
      where substring(x.key from 1 for 1024) = substring(k from 1 for 1024) and x.key = k
      returning x.create_revision, x.version into created, versions;
    end if;
    if versions is null then
      created := upcoming;
      versions := 1;
      insert into ${schema}.entry (key, value, create_revision, mod_revision, version, lease)
      values (k, v, upcoming, upcoming, 1, 0);
    end if;
    insert into ${schema}.log (revision, sub, key, value, create_revision, version, lease, request)
    values (upcoming, 0, k, v, created, versions, 0, sender);
    if length(k) <= 3000 then keys := encode(k, 'hex'); end if;
  else
    with given as (
      select g.key, g.value, (g.place - 1)::int as sub from unnest(ks, vs) with ordinality as g (key, value, place)
    ), updated as (
      update ${schema}.entry x set value = g.value, mod_revision = upcoming, version = x.version + 1, lease = 0
      from given g
      where substring(x.key from 1 for 1024) = substring(g.key from 1 for 1024) and x.key = g.key
      returning g.sub, g.key, g.value, x.create_revision, x.version
    ), added as (
      select g.sub, g.key, g.value from given g where g.sub not in (select u.sub from updated u)
    ), inserted as (
      insert into ${schema}.entry (key, value, create_revision, mod_revision, version, lease)
      select a.key, a.value, upcoming, upcoming, 1, 0 from added a
    )
    insert into ${schema}.log (revision, sub, key, value, create_revision, version, lease, request)
    select upcoming, u.sub, u.key, u.value, u.create_revision, u.version, 0, case when u.sub = 0 then sender end
    from updated u
    union all
    select upcoming, a.sub, a.key, a.value, upcoming, 1, 0, case when a.sub = 0 then sender end from added a;
    if size <= 32 then
      select string_agg(encode(g.key, 'hex'), ',') into keys from unnest(ks) g (key) having sum(length(g.key)) <= 3000;
    end if;
  end if;
  if pg_notify(${channel}, upcoming || coalesce(' ' || case when not is_due then keys end, '')) is null then
    raise exception 'pg_notify returned null';
  end if;
  ${bounded}
  o_kind := ${kind.revision}; o_revision := upcoming;
  return next;
end $fn$;
`
