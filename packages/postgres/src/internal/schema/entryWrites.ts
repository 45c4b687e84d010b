/**
 * The function for a write of one key: a put or a delete, on a condition or none, as recipes make it. A lock is acquired
 * and released by one each.
 *
 * The same as `write` does for such an operation, without JSON: its parameters are those of the write, and it returns one
 * row.
 */
import { bounded, lockForWrite, variablesOfWrite } from "./epochs.ts"
import { kind } from "./items.ts"
import { countIn, newestIn } from "./newest.ts"
import { settings } from "./settings.ts"

/** A condition that every revision fulfils. */
const any = "9223372036854775807"

/** The statements that write the entry of the key `k`, if a condition holds. */
const statements = (schema: string, condition: string) => ({
  insert: `insert into ${schema}.entry (key, value, create_revision, mod_revision, version, lease)
      select k, v, upcoming, upcoming, 1, leased where ${condition};`,
  update: `update ${schema}.entry x set value = v, mod_revision = upcoming, version = x.version + 1, lease = leased
      where substring(x.key from 1 for 1024) = substring(k from 1 for 1024) and x.key = k and ${condition}
      returning x.create_revision, x.version into created, versions;`,
  // A transaction of the application may hold the fence of the key. The writers behind this one must not wait for it.
  delete: `delete from ${schema}.entry x using (
        select y.ctid from ${schema}.entry y
        where substring(y.key from 1 for 1024) = substring(k from 1 for 1024) and y.key = k and ${condition}
        for update nowait
      ) locked
      where x.ctid = locked.ctid;`
})

/**
 * - `condition_key` has the create revision `wanted`, or the modification revision if `is_modified`; 0 is that of a missing
 *   key. Null: no condition.
 * - `k` is put with the value `v` and the lease `leased`, or deleted if `v` is null.
 * - Before that the entry in `[first, last)` that was created last is read, unless `first` is null.
 * - `known` and `seen` are the epoch and the revision that the client knows; null and 0 if it knows none.
 *
 * The row has the kind of the last item of `write`, or of its rejection. `o_n` is the number of keys that were deleted, and
 * for a rejection its `n`.
 */
export const entryWrites = (schema: string, channel: string): string => {
  // In most cases nothing stands in the way, and the statement that writes finds that out.
  const isRegular = `not exists (select from ${schema}.void r where r.request = sender)
        and not exists (select from ${schema}.lease r where r.expires_at <= moment)
        and (leased = 0 or exists (select from ${schema}.lease r where r.id = leased and r.expires_at > moment))`
  const isMissing = `not exists (
          select from ${schema}.entry r
          where substring(r.key from 1 for 1024) = substring(k from 1 for 1024) and r.key = k
        )`
  const isWanted = (row: string) =>
    `case when is_modified then ${row}.mod_revision else ${row}.create_revision end = wanted`
  const insertIfRegular = statements(schema, `${isRegular} and ${isMissing}`).insert
  const updateIfRegular = statements(schema, `${isRegular} and ${isWanted("x")}`).update
  const deleteIfRegular = statements(schema, `${isRegular} and ${isWanted("y")}`).delete
  const always = statements(schema, "true")
  const readNewest = `
    if first is not null then
      ${newestIn(schema, "first", "last", any)}
      o_count := 0;
      if o_key is not null then
        ${countIn(schema, "first", "last", "o_count")}
      end if;
    end if;`
  return `
create or replace function ${schema}.write_entry(
  condition_key bytea, is_modified boolean, wanted bigint, k bytea, v bytea, leased bigint, first bytea, last bytea,
  sender uuid, known bigint, seen bigint
) returns table (
  o_kind smallint, o_holds boolean, o_n bigint, o_revision bigint, o_epoch bigint, o_key bytea, o_created bigint,
  o_modified bigint, o_version bigint, o_count bigint
)
language plpgsql ${settings} as $fn$
#variable_conflict use_column
declare${variablesOfWrite}
  before bigint;
  now bigint;
  is_void boolean;
  is_due boolean;
  has_expired boolean := false;
  is_alive boolean;
  is_written boolean := false;
  created bigint;
  modified bigint;
  versions bigint;
begin
  ${lockForWrite(schema, "o_epoch")}
  before := upcoming - 1;
  now := before;
  o_kind := ${kind.revision};
  if k = condition_key and seen >= oldest and (known is null or known = o_epoch and seen <= before) then
    ${readNewest}
    if v is null then
      ${deleteIfRegular}
      is_written := found;
      o_n := 1;
    elsif wanted = 0 then
      ${insertIfRegular}
      is_written := found;
      created := upcoming;
      versions := 1;
    else
      ${updateIfRegular}
      is_written := versions is not null;
    end if;
    o_holds := is_written;
  end if;

  if not is_written then
    loop
      select
        exists (select from ${schema}.void y where y.request = sender),
        exists (select from ${schema}.lease y where y.expires_at <= moment),
        exists (select from ${schema}.lease y where y.id = leased and y.expires_at > moment),
        x.create_revision, x.mod_revision
      into is_void, is_due, is_alive, created, modified
      from (select) one
      left join ${schema}.entry x
        on substring(x.key from 1 for 1024) = substring(condition_key from 1 for 1024) and x.key = condition_key;
      exit when has_expired;
      -- A request of a client that knows of lost writes means nothing any more: its condition may hold by chance.
      if is_void or (seen >= oldest) is not true
        or known = o_epoch and seen > before
        or known <> o_epoch and not ${schema}.holds_revision(known, seen)
      then
        perform ${schema}.settle(before, before);
        o_kind := ${kind.void}; o_revision := before; return next; return;
      end if;
      exit when not is_due;
      now := ${schema}.expire(before);
      upcoming := now + 1;
      has_expired := true;
      moment := clock_timestamp();
    end loop;
    o_holds := condition_key is null or coalesce(case when is_modified then modified else created end, 0) = wanted;
    if not o_holds then
      perform ${schema}.settle(before, now);
      o_revision := now; return next; return;
    end if;
    if leased <> 0 and not is_alive then
      perform ${schema}.settle(before, now);
      o_kind := ${kind.leaseNotFound}; o_n := leased; return next; return;
    end if;
    ${readNewest}
    if v is null then
      ${always.delete}
      if not found then
        perform ${schema}.settle(before, now);
        o_n := 0; o_revision := now; return next; return;
      end if;
      o_n := 1;
    else
      versions := null;
      ${always.update}
      if versions is null then
        created := upcoming;
        versions := 1;
        ${always.insert}
      end if;
    end if;
  end if;

  insert into ${schema}.log (revision, sub, key, value, create_revision, version, lease, request)
  values (
    upcoming, 0, k, coalesce(v, ''), case when v is null then 0 else created end,
    case when v is null then 0 else versions end, case when v is null then 0 else leased end, sender
  );
  if has_expired then
    perform ${schema}.settle(before, upcoming);
  elsif pg_notify(${channel}, upcoming || case when length(k) <= 3000 then ' ' || encode(k, 'hex') else '' end) is null then
    raise exception 'pg_notify returned null';
  end if;
  ${bounded}
  o_revision := upcoming;
  return next;
end $fn$;
`
}
