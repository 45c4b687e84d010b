/**
 * The functions that execute an operation: one round trip, whatever it holds.
 *
 * An operation arrives as JSON, and its keys and values as an array of bytes that the JSON refers to by position. The
 * rules are those of a transaction of etcd: all conditions, including nested ones, see the store as it was before the
 * transaction. Then the operations of the chosen branches are checked, and only then does the first one run.
 *
 * `read` is one snapshot, and takes no lock. `write` first locks the row of the store until it commits.
 */
import { entryWrites } from "./entryWrites.ts"
import { bounded, durable, lockForWrite, randomId, variablesOfWrite } from "./epochs.ts"
import { columns, kind } from "./items.ts"
import { countsIn, newestIn } from "./newest.ts"
import { puts } from "./puts.ts"
import { settings } from "./settings.ts"
import { deleteVoids } from "./voids.ts"

/**
 * Sets `steps` to the operations to execute, and `holds` to the branch of a transaction: null for another operation, and
 * for a transaction with nested ones, whose steps name the branches.
 */
const chooseSteps = (schema: string, evaluate = `holds := ${schema}.holds(op->'if'->i, data);`): string => `
  if op->>'t' <> 't' then
    steps := jsonb_build_array(op);
  elsif not op ? 'flat' then
    steps := to_jsonb(${schema}.chosen(op, data));
  else
    holds := true;
    for i in 0..jsonb_array_length(op->'if') - 1 loop
      ${evaluate}
      exit when not holds;
    end loop;
    steps := op->(case when holds then 'then' else 'else' end);
  end if;`

/** Executes the read in `step`. What recipes read most has a statement of its own. */
const readStep = (schema: string, past: string): string => `
      if step ? 'one' then
        k := data[(step->>'k')::int];
        total := 0;
        select x.key, x.value, x.create_revision, x.mod_revision, x.version, x.lease
        into o_key, o_value, o_created, o_modified, o_version, o_lease
        from ${schema}.entry x
        where substring(x.key from 1 for 1024) = substring(k from 1 for 1024) and x.key = k;
        if found then
          if step ? 'ko' then o_value := ''; o_lease := 0; end if;
          o_kind := ${kind.entry}; o_flag := null; o_n := null; return next;
          total := 1;
        end if;
        o_kind := ${kind.end}; o_flag := false; o_n := total; o_key := null; o_value := null; return next;
      elsif step ? 'young' then
        k := data[(step->>'k')::int];
        e := data[(step->>'e')::int];
        newest := coalesce((step->>'xc')::bigint, 9223372036854775807);
        total := 0;
        hits := 0;
        ${newestIn(schema, "k", "e", "newest")}
        if found then
          o_kind := ${kind.entry}; o_flag := null; o_n := null; o_value := ''; o_lease := 0; return next;
        end if;
        if o_key is not null or step ? 'xc' then
          ${countsIn(schema, "k", "e", "newest", "total, hits")}
        end if;
        o_kind := ${kind.end}; o_flag := hits > 1; o_n := total; o_key := null; o_value := null; return next;
      else
        return query select * from ${schema}.range_op(step, data, ${past});
      end if;`

/** The entries that `range_op` selects. Each order has a statement of its own, because it needs a plan of its own. */
const entriesOf = (schema: string): string =>
  `select ${kind.entry}::smallint, null::boolean, null::bigint, x.key,
            case when keys_only then ''::bytea else x.value end, x.create_revision, x.mod_revision, x.version,
            case when keys_only then 0 else x.lease end
          from ${schema}.entry x
          where substring(x.key from 1 for 1024) >= head1 and substring(x.key from 1 for 1024) <= head2
            and x.key >= first and x.key < last
            and x.mod_revision between min_mod and max_mod and x.create_revision between min_create and max_create`

export const functions = (schema: string, channel: string): string => `
create or replace function ${schema}.holds(c jsonb, data bytea[]) returns boolean
language plpgsql stable as $fn$
#variable_conflict use_column
declare
  target text := c->>'c';
  k bytea := data[(c->>'k')::int];
  e bytea;
  v bytea;
  n bigint;
  created bigint;
  modified bigint;
  versions bigint;
  leased bigint;
begin
  if target = 'b' then
    e := data[(c->>'e')::int];
    n := (c->>'n')::bigint;
    return not exists (
      select from ${schema}.entry x
      where substring(x.key from 1 for 1024) >= substring(k from 1 for 1024)
        and substring(x.key from 1 for 1024) <= substring(e from 1 for 1024)
        and x.key >= k and x.key < e and x.create_revision >= n
    );
  end if;
  select x.value, x.create_revision, x.mod_revision, x.version, x.lease
  into v, created, modified, versions, leased
  from ${schema}.entry x
  where substring(x.key from 1 for 1024) = substring(k from 1 for 1024) and x.key = k;
  return ${schema}.compares(c, data, v, created, modified, versions, leased);
end $fn$;

-- Whether a condition holds of an entry; of a missing one if the version is null.
create or replace function ${schema}.compares(
  c jsonb, data bytea[], value bytea, created bigint, modified bigint, version bigint, lease bigint
) returns boolean
language plpgsql immutable as $fn$
declare
  target text := c->>'c';
  operator text := c->>'o';
  a bigint;
  b bigint;
  v bytea;
begin
  if target = 'v' then
    if version is null then return false; end if;
    v := data[(c->>'v')::int];
    return case operator when '=' then value = v when '!=' then value <> v when '<' then value < v else value > v end;
  end if;
  a := coalesce(case target when 'n' then version when 'c' then created when 'm' then modified else lease end, 0);
  b := (c->>'n')::bigint;
  return case operator when '=' then a = b when '!=' then a <> b when '<' then a < b else a > b end;
end $fn$;

create or replace function ${schema}.chosen(op jsonb, data bytea[]) returns jsonb[]
language plpgsql stable as $fn$
declare
  c jsonb;
  o jsonb;
  holds boolean := true;
  steps jsonb[];
begin
  if op->>'t' <> 't' then return array[op]; end if;
  for c in select value from jsonb_array_elements(op->'if') loop
    if not ${schema}.holds(c, data) then
      holds := false;
      exit;
    end if;
  end loop;
  steps := array[jsonb_build_object('t', 't', 's', holds)];
  for o in select value from jsonb_array_elements(op->(case when holds then 'then' else 'else' end)) loop
    if o->>'t' = 't' then
      steps := steps || ${schema}.chosen(o, data);
    else
      steps := array_append(steps, o);
    end if;
  end loop;
  return steps;
end $fn$;

create or replace function ${schema}.range_op(op jsonb, data bytea[], past bigint) returns table (${columns})
language plpgsql stable as $fn$
#variable_conflict use_column
declare
  first bytea := data[(op->>'k')::int];
  last bytea := data[(op->>'e')::int];
  head1 bytea := substring(first from 1 for 1024);
  head2 bytea := substring(last from 1 for 1024);
  lim bigint := (op->>'l')::bigint;
  sorted text := coalesce(op->>'by', 'k');
  dir int := case when op ? 'desc' then -1 else 1 end;
  keys_only boolean := op ? 'ko';
  filtered boolean := op ? 'f';
  min_mod bigint := coalesce((op->>'mm')::bigint, 0);
  max_mod bigint := coalesce((op->>'xm')::bigint, 9223372036854775807);
  min_create bigint := coalesce((op->>'mc')::bigint, 0);
  max_create bigint := coalesce((op->>'xc')::bigint, 9223372036854775807);
  got bigint := 0;
  passed bigint;
  total bigint;
begin
  if past is null then
    if not op ? 'co' then
      if sorted = 'k' and dir = 1 then
        return query
          ${entriesOf(schema)}
          order by substring(x.key from 1 for 1024), x.key limit lim;
      elsif sorted = 'k' then
        return query
          ${entriesOf(schema)}
          order by substring(x.key from 1 for 1024) desc, x.key desc limit lim;
      else
        return query
          ${entriesOf(schema)}
          order by dir * case sorted when 'v' then x.version when 'm' then x.mod_revision else x.create_revision end, x.key
          limit lim;
      end if;
      get diagnostics got = row_count;
    end if;
    if op ? 'co' or filtered or lim is not null and got >= lim then
      select count(*), count(*) filter (
        where x.mod_revision between min_mod and max_mod and x.create_revision between min_create and max_create
      )
      into total, passed
      from ${schema}.entry x
      where substring(x.key from 1 for 1024) >= head1 and substring(x.key from 1 for 1024) <= head2
        and x.key >= first and x.key < last;
    else
      total := got;
      passed := got;
    end if;
  else
    if not op ? 'co' then
      return query
        select ${kind.entry}::smallint, null::boolean, null::bigint, x.key,
          case when keys_only then ''::bytea else x.value end, x.create_revision, x.revision, x.version,
          case when keys_only then 0 else x.lease end
        from ${schema}.at_revision(past, first, last) x
        where x.revision between min_mod and max_mod and x.create_revision between min_create and max_create
        order by
          case when sorted = 'k' and dir = -1 then x.key end desc,
          case when sorted = 'k' then 0
            else dir * case sorted when 'v' then x.version when 'm' then x.revision else x.create_revision end end,
          x.key
        limit lim;
    end if;
    select count(*), count(*) filter (
      where x.revision between min_mod and max_mod and x.create_revision between min_create and max_create
    )
    into total, passed
    from ${schema}.at_revision(past, first, last) x;
  end if;
  return query select ${kind.end}::smallint, coalesce(not op ? 'co' and passed > lim, false), total, null::bytea, null::bytea,
    null::bigint, null::bigint, null::bigint, null::bigint;
end $fn$;

create or replace function ${schema}.at_revision(past bigint, first bytea, last bytea)
returns table (key bytea, value bytea, revision bigint, create_revision bigint, version bigint, lease bigint)
language sql stable as $fn$
  select l.key, l.value, l.revision, l.create_revision, l.version, l.lease
  from (
    select distinct on (substring(x.key from 1 for 1024), x.key) x.*
    from ${schema}.log x
    where substring(x.key from 1 for 1024) >= substring(first from 1 for 1024)
      and substring(x.key from 1 for 1024) <= substring(last from 1 for 1024)
      and x.key >= first and x.key < last and x.revision <= past
    order by substring(x.key from 1 for 1024), x.key, x.revision desc, x.sub desc
  ) l
  where l.version <> 0
$fn$;

create or replace function ${schema}.unreadable(steps jsonb[], now bigint, gone bigint) returns table (${columns})
language plpgsql immutable as $fn$
declare
  step jsonb;
  wanted bigint;
begin
  foreach step in array steps loop
    continue when not step ? 'rev';
    wanted := (step->>'rev')::bigint;
    if wanted > now or wanted < gone then
      o_kind := case when wanted > now then ${kind.future} else ${kind.compacted} end;
      o_n := case when wanted > now then now else gone end;
      o_modified := wanted;
      return next;
      return;
    end if;
  end loop;
end $fn$;

create or replace function ${schema}.read(op jsonb, data bytea[]) returns table (${columns})
language plpgsql stable ${settings} as $fn$
#variable_conflict use_column
declare
  now bigint;
  gone bigint;
  era bigint;
  step jsonb;
  steps jsonb;
  holds boolean;
  k bytea;
  e bytea;
  newest bigint;
  hits bigint;
  total bigint;
begin
  if not op ? 'any' and pg_is_in_recovery() then perform ${schema}.primary_only(); end if;
  select s.revision, s.compacted, s.epoch into now, gone, era from ${schema}.store s;
  ${chooseSteps(schema)}
  if op ? 'past' then
    return query select * from ${schema}.unreadable(array(select jsonb_array_elements(steps)), now, gone);
    if found then return; end if;
  end if;
  if holds is not null then o_kind := ${kind.txn}; o_flag := holds; return next; end if;
  for i in 0..jsonb_array_length(steps) - 1 loop
    step := steps->i;
    if step->>'t' = 'r' then
      ${readStep(schema, "case when (step->>'rev')::bigint < now then (step->>'rev')::bigint end")}
    else
      o_kind := ${kind.txn}; o_flag := (step->>'s')::boolean; return next;
    end if;
  end loop;
  o_kind := ${kind.revision}; o_flag := null; o_n := now; o_modified := now; o_lease := era; return next;
end $fn$;

-- The most frequent read: one key as it is now. It has no settings and is one select, so Postgres makes it part of the
-- statement that calls it, which costs a third less than a function that is called. See entryPages.ts for its plan.
create or replace function ${schema}.entry_now(k bytea) returns table (
  o_revision bigint, o_value bytea, o_created bigint, o_modified bigint, o_version bigint, o_lease bigint, o_epoch bigint
)
language sql stable as $fn$
  select s.revision, x.value, x.create_revision, x.mod_revision, x.version, x.lease, s.epoch
  from ${schema}.store s left join ${schema}.entry x
    on substring(x.key from 1 for 1024) = substring(k from 1 for 1024) and x.key = k
  where not pg_is_in_recovery() or ${schema}.primary_only()
$fn$;

-- For clients of version 1.
create or replace function ${schema}.get_entry(k bytea) returns table (
  o_revision bigint, o_value bytea, o_created bigint, o_modified bigint, o_version bigint, o_lease bigint
)
language sql stable as $fn$
  select x.o_revision, x.o_value, x.o_created, x.o_modified, x.o_version, x.o_lease from ${schema}.entry_now(k) x
$fn$;

-- For calls of version 1 in flight.
create or replace function ${schema}.commit_revision(before bigint, after bigint) returns void
language plpgsql as $fn$
begin
  perform ${schema}.commit_writes(before, after, 0);
end $fn$;

-- A notification names the keys of its revision, if they are few: a client whose watches have none of them reads nothing.
-- Returns the epoch of the store: the known one, unless this write begins another.
create or replace function ${schema}.commit_writes(before bigint, after bigint, known bigint) returns bigint
language plpgsql as $fn$
declare
  keys text;
begin
  ${bounded}
  if after = before then return known; end if;
  known := ${schema}.advance(before, after, known);
  if after = before + 1 then
    select string_agg(encode(x.key, 'hex'), ',') into keys from ${schema}.log x where x.revision = after
    having count(*) <= 32 and sum(length(x.key)) <= 3000;
  end if;
  perform pg_notify(${channel}, after || coalesce(' ' || keys, ''));
  return known;
end $fn$;

create or replace function ${schema}.end_lease(ended bigint, now bigint, forced boolean) returns bigint
language plpgsql as $fn$
declare
  attached bigint;
  free bigint;
begin
  select count(*) into attached from ${schema}.entry x where x.lease = ended and x.lease <> 0;
  if attached = 0 then
    delete from ${schema}.lease x where x.id = ended;
    return now;
  end if;
  if not forced then
    -- A transaction of the application that holds the fence of a key delays the end of the key's lease, not the writers.
    select count(*) into free from (
      select from ${schema}.entry x where x.lease = ended and x.lease <> 0 for update skip locked
    ) y;
    if free < attached then return now; end if;
  else
    perform from ${schema}.entry x where x.lease = ended and x.lease <> 0 for update nowait;
  end if;
  delete from ${schema}.lease x where x.id = ended;
  with gone as (
    delete from ${schema}.entry x where x.lease = ended and x.lease <> 0 returning x.key
  )
  insert into ${schema}.log (revision, sub, key, value, create_revision, version, lease)
  select now + 1, row_number() over (order by key) - 1, key, '', 0, 0, 0 from gone;
  return now + 1;
end $fn$;

-- Ends the leases that are due, for about a second. The statement is rolled back if its caller does not wait for it, so if
-- many are due it must leave some to the next one, as those that a fence holds.
create or replace function ${schema}.expire(now bigint) returns bigint
language plpgsql as $fn$
declare
  moment timestamptz := clock_timestamp();
  ended bigint;
begin
  for ended in
    select x.id from ${schema}.lease x where x.expires_at <= moment order by x.expires_at, x.id for update skip locked
  loop
    now := ${schema}.end_lease(ended, now, false);
    exit when clock_timestamp() > moment + interval '1 second';
  end loop;
  return now;
end $fn$;

create or replace function ${schema}.sweep() returns bigint
language plpgsql ${settings} as $fn$
declare
  before bigint;
  now bigint;
  era bigint;
begin
  select revision, epoch into before, era from ${schema}.store for update;
  now := ${schema}.expire(before);
  perform ${schema}.commit_writes(before, now, era);
  return now;
end $fn$;

-- The store has the revision, after a write that may have moved it further.
create or replace function ${schema}.settle(before bigint, after bigint) returns void
language plpgsql as $fn$
begin
  ${bounded}
  update ${schema}.store set revision = after;
  if after > before then perform pg_notify(${channel}, after::text); end if;
end $fn$;

create or replace function ${schema}.write(op jsonb, data bytea[], sender uuid) returns table (${columns})
language plpgsql ${settings} as $fn$
#variable_conflict use_column
declare${variablesOfWrite}
  before bigint;
  now bigint;
  gone bigint;
  n integer := 0;
  step jsonb;
  steps jsonb;
  holds boolean;
  k bytea;
  e bytea;
  v bytea;
  leased bigint;
  created bigint;
  versions bigint;
  newest bigint;
  hits bigint;
  total bigint;
  era bigint;
  is_void boolean;
  is_due boolean;
  is_alive boolean;
  only_lease bigint;
  first_condition jsonb;
  modified bigint;
  keys text := '';
  deleted text;
  is_bounded boolean := false;
begin
  -- In most cases the revision is the next one, so that its update is the lock, too. In the others it is set again.
  ${lockForWrite(schema, "era", { column: "compacted", variable: "gone" })}
  before := upcoming - 1;
  now := before;
  -- Each statement costs more than what it does, so this one reads all that most requests need: also the lease, if it is
  -- one, and the key of the first condition, unless that is not of a key.
  only_lease := (op->>'lease')::bigint;
  first_condition := op->'if'->0;
  k := case when first_condition->>'c' <> 'b' then data[(first_condition->>'k')::int] end;
  select
    exists (select from ${schema}.void y where y.request = sender),
    exists (select from ${schema}.lease y where y.expires_at <= moment),
    exists (select from ${schema}.lease y where y.id = only_lease and y.expires_at > moment),
    x.value, x.create_revision, x.mod_revision, x.version, x.lease
  into is_void, is_due, is_alive, v, created, modified, versions, leased
  from (select) one
  left join ${schema}.entry x on substring(x.key from 1 for 1024) = substring(k from 1 for 1024) and x.key = k;
  -- A request of a client that knows of lost writes means nothing any more: its conditions may hold by chance.
  -- Clients of version 1 do not say what they know.
  if is_void or (op->>'kr')::bigint < oldest or op ? 'ke' and (
    (op->>'ke')::bigint = era and (op->>'kr')::bigint > before
    or (op->>'ke')::bigint <> era and not ${schema}.holds_revision((op->>'ke')::bigint, (op->>'kr')::bigint)
  ) then
    perform ${schema}.settle(before, before);
    o_kind := ${kind.void}; o_modified := before; o_lease := era; return next; return;
  end if;
  if is_due then
    now := ${schema}.expire(before);
    upcoming := now + 1;
    is_alive := false;
    k := null;
  end if;
  ${
  chooseSteps(
    schema,
    `
      if i = 0 and k is not null then
        holds := ${schema}.compares(first_condition, data, v, created, modified, versions, leased);
      else
        holds := ${schema}.holds(op->'if'->i, data);
      end if;`
  )
}
  if op ? 'leases' then for i in 0..jsonb_array_length(steps) - 1 loop
    leased := (steps->i->>'lease')::bigint;
    continue when leased is null or is_alive and leased = only_lease;
    if not exists (select from ${schema}.lease x where x.id = leased and x.expires_at > clock_timestamp()) then
      perform ${schema}.settle(before, now);
      o_kind := ${kind.leaseNotFound}; o_n := leased; return next; return;
    end if;
  end loop; end if;
  if op ? 'past' then
    return query select * from ${schema}.unreadable(array(select jsonb_array_elements(steps)), now, gone);
    if found then
      perform ${schema}.settle(before, now);
      return;
    end if;
  end if;
  if holds is not null then o_kind := ${kind.txn}; o_flag := holds; return next; end if;
  for i in 0..jsonb_array_length(steps) - 1 loop
    step := steps->i;
    if not is_bounded and (step->>'t' = 'r' and not step ? 'young' or step ? 'pv') then
      -- The response may be large, and the lock of the store is held until it is sent: not to a client that stopped.
      perform set_config('tcp_user_timeout', '5000', true);
      is_bounded := true;
    end if;
    case step->>'t'
    when 'p' then
      k := data[(step->>'k')::int];
      v := data[(step->>'v')::int];
      leased := coalesce((step->>'lease')::bigint, 0);
      if step ? 'pv' then
        return query
          select ${kind.entry}::smallint, null::boolean, null::bigint, x.key, x.value, x.create_revision, x.mod_revision,
            x.version, x.lease
          from ${schema}.entry x
          where substring(x.key from 1 for 1024) = substring(k from 1 for 1024) and x.key = k;
      end if;
      versions := null;
      if not step ? 'new' then
        update ${schema}.entry x set value = v, mod_revision = upcoming, version = x.version + 1, lease = leased
        where substring(x.key from 1 for 1024) = substring(k from 1 for 1024) and x.key = k
        returning x.create_revision, x.version into created, versions;
      end if;
      if versions is null then
        created := upcoming;
        versions := 1;
        insert into ${schema}.entry (key, value, create_revision, mod_revision, version, lease)
        values (k, v, upcoming, upcoming, 1, leased);
      end if;
      insert into ${schema}.log (revision, sub, key, value, create_revision, version, lease, request)
      values (upcoming, n, k, v, created, versions, leased, case when n = 0 then sender end);
      n := n + 1;
      if n <= 32 then keys := keys || ',' || encode(k, 'hex'); end if;
      o_kind := ${kind.end}; o_flag := null; o_n := 0; return next;
    when 'd' then
      k := data[(step->>'k')::int];
      e := data[(step->>'e')::int];
      if step ? 'pv' then
        return query
          select ${kind.entry}::smallint, null::boolean, null::bigint, x.key, x.value, x.create_revision, x.mod_revision,
            x.version, x.lease
          from ${schema}.entry x
          where substring(x.key from 1 for 1024) >= substring(k from 1 for 1024)
            and substring(x.key from 1 for 1024) <= substring(e from 1 for 1024) and x.key >= k and x.key < e
          order by x.key;
      end if;
      -- A transaction of the application may hold the fence of a key. The writers behind this one must not wait for it.
      if step ? 'one' then
        delete from ${schema}.entry x using (
          select y.ctid from ${schema}.entry y
          where substring(y.key from 1 for 1024) = substring(k from 1 for 1024) and y.key = k
          for update nowait
        ) locked
        where x.ctid = locked.ctid;
        if found then
          insert into ${schema}.log (revision, sub, key, value, create_revision, version, lease, request)
          values (upcoming, n, k, '', 0, 0, 0, case when n = 0 then sender end);
          n := n + 1;
          if n <= 32 then keys := keys || ',' || encode(k, 'hex'); end if;
          hits := 1;
        else
          hits := 0;
        end if;
      else
        perform from ${schema}.entry x
        where substring(x.key from 1 for 1024) >= substring(k from 1 for 1024)
          and substring(x.key from 1 for 1024) <= substring(e from 1 for 1024) and x.key >= k and x.key < e
        for update nowait;
        with deleted as (
          delete from ${schema}.entry x
          where substring(x.key from 1 for 1024) >= substring(k from 1 for 1024)
            and substring(x.key from 1 for 1024) <= substring(e from 1 for 1024) and x.key >= k and x.key < e
          returning x.key
        ), logged as (
          insert into ${schema}.log (revision, sub, key, value, create_revision, version, lease, request)
          select upcoming, y.sub, y.key, '', 0, 0, 0, case when y.sub = 0 then sender end
          from (select d.key, n + (row_number() over (order by d.key))::int - 1 as sub from deleted d) y
        )
        -- Keys that are too long for a notification make it name none.
        select count(*), case when sum(length(d.key)) <= 3000
          then string_agg(',' || encode(d.key, 'hex'), '') else repeat('0', 6001) end
        into hits, deleted
        from deleted d;
        n := n + hits::int;
        if n <= 32 and hits > 0 then keys := keys || deleted; end if;
      end if;
      o_kind := ${kind.end}; o_flag := null; o_n := hits; return next;
    when 'r' then
      ${readStep(schema, "case when (step->>'rev')::bigint < now or n > 0 then (step->>'rev')::bigint end")}
    else
      o_kind := ${kind.txn}; o_flag := (step->>'s')::boolean; o_n := null; return next;
    end case;
  end loop;
  if n > 0 then now := upcoming; end if;
  if is_due or n = 0 then
    perform ${schema}.settle(before, now);
  elsif pg_notify(${channel}, now || case when n <= 32 and length(keys) <= 6000 then ' ' || substr(keys, 2) else '' end)
    is null
  then
    raise exception 'pg_notify returned null';
  end if;
  ${bounded}
  o_kind := ${kind.revision}; o_flag := null; o_n := now; o_modified := now; o_lease := era; return next;
end $fn$;

-- Whether a request whose response was lost was applied: returns what it wrote, or declares it void, so that it will not be
-- applied when it arrives later. Under repeatable read, a write that has its snapshot already does not see that; it fails
-- because the row of the store was updated.
-- A client that knew a revision that the store lacks learns from the epoch that its question means nothing.
create or replace function ${schema}.resolve(sender uuid, since bigint) returns table (${columns})
language plpgsql ${settings} as $fn$
#variable_conflict use_column
declare
  now bigint;
  gone bigint;
  applied bigint;
  era bigint;
begin
  ${durable}
  ${bounded}
  select s.revision, s.cleanable, s.epoch into now, gone, era from ${schema}.store s for update;
  select x.revision into applied from ${schema}.log x
  where x.revision > greatest(gone, since) and x.request = sender limit 1;
  if applied is not null then
    return query
      select case when x.version = 0 then ${kind.delete} else ${kind.put} end::smallint, null::boolean, null::bigint, x.key,
        ''::bytea, x.create_revision, x.revision, x.version, x.lease
      from ${schema}.log x where x.revision = applied order by x.sub;
    o_kind := ${kind.revision}; o_n := applied; o_modified := now; o_lease := era; return next;
  elsif since < gone then
    o_kind := ${kind.compacted}; o_n := gone; return next;
  elsif since > now then
    -- The store went back, so the write may be at an earlier revision.
    o_kind := ${kind.future}; o_n := now; o_modified := now; o_lease := era; return next;
  else
    insert into ${schema}.void (request, revision) values (sender, now) on conflict do nothing;
    update ${schema}.store set revision = revision;
    o_kind := ${kind.void}; o_modified := now; o_lease := era; return next;
  end if;
end $fn$;

create or replace function ${schema}.grant_lease(wanted bigint, seconds bigint) returns table (o_id bigint, o_ttl bigint)
language plpgsql ${settings} as $fn$
declare
  granted bigint;
  now bigint;
begin
  ${durable}
  ${bounded}
  for attempt in 1..2 loop
    granted := coalesce(wanted, ${randomId});
    insert into ${schema}.lease (id, ttl, expires_at)
    values (granted, seconds, clock_timestamp() + seconds * interval '1 second') on conflict do nothing;
    if found then
      o_id := granted; o_ttl := seconds; return next;
      perform pg_notify(${channel}, 'lease');
      return;
    end if;
    perform ${schema}.sweep();
  end loop;
end $fn$;

create or replace function ${schema}.revoke_lease(revoked bigint) returns boolean
language plpgsql ${settings} as $fn$
declare
  before bigint;
  now bigint;
  era bigint;
  alive boolean;
begin
  ${durable}
  select revision, epoch into before, era from ${schema}.store for update;
  now := ${schema}.expire(before);
  select true into alive from ${schema}.lease x where x.id = revoked and x.expires_at > clock_timestamp() for update;
  if alive then
    now := ${schema}.end_lease(revoked, now, true);
    -- As in resolve: the lease of a write that has its snapshot already may be this one.
    if now = before then update ${schema}.store set revision = before; end if;
  end if;
  perform ${schema}.commit_writes(before, now, era);
  return coalesce(alive, false);
end $fn$;

create or replace function ${schema}.changes(
  since bigint, opening boolean, first bytea, last bytea, only_kind smallint, with_previous boolean, max_rows integer,
  max_bytes bigint
) returns table (${columns})
language plpgsql stable ${settings} as $fn$
#variable_conflict use_column
declare
  now bigint;
  gone bigint;
  lost bigint;
  era bigint;
  r record;
  p record;
  reached bigint;
  emitted integer := 0;
  bytes bigint := 0;
begin
  if pg_is_in_recovery() then perform ${schema}.primary_only(); end if;
  select s.revision, s.compacted, s.cleanable, s.epoch into now, gone, lost, era from ${schema}.store s;
  since := coalesce(since, now + 1);
  if since <= (case when opening then gone else lost end) then
    o_kind := ${kind.compacted}; o_n := gone; return next; return;
  end if;
  for r in
    select x.revision, x.sub, x.key, x.value, x.create_revision, x.version, x.lease from ${schema}.log x
    where x.revision >= since and x.key >= first and x.key < last
      and (only_kind is null or (x.version = 0) = (only_kind = ${kind.delete}))
    order by x.revision, x.sub
  loop
    if r.revision is distinct from reached then
      if emitted >= max_rows or bytes >= max_bytes then
        o_kind := ${kind.revision}; o_n := reached; o_key := null; o_value := null; o_modified := now; o_lease := era;
        return next; return;
      end if;
      reached := r.revision;
    end if;
    if with_previous then
      select x.key, x.value, x.revision, x.create_revision, x.version, x.lease into p from ${schema}.log x
      where substring(x.key from 1 for 1024) = substring(r.key from 1 for 1024) and x.key = r.key
        and x.revision < r.revision
      order by x.revision desc, x.sub desc limit 1;
      if found and p.version <> 0 then
        o_kind := ${kind.previous}; o_n := null; o_key := p.key; o_value := p.value; o_created := p.create_revision;
        o_modified := p.revision; o_version := p.version; o_lease := p.lease; return next;
      end if;
    end if;
    o_kind := case when r.version = 0 then ${kind.delete} else ${kind.put} end;
    o_n := null; o_key := r.key; o_value := r.value; o_created := r.create_revision;
    o_modified := r.revision; o_version := r.version; o_lease := r.lease; return next;
    emitted := emitted + 1;
    bytes := bytes + length(r.key) + length(r.value);
  end loop;
  o_kind := ${kind.revision}; o_n := greatest(now, since - 1); o_key := null; o_value := null; o_modified := now;
  o_lease := era; return next;
end $fn$;

create or replace function ${schema}.rotate() returns void
language plpgsql as $fn$
begin
  ${bounded}
  update ${schema}.store set cleanable = pending, pending = compacted, rotated_at = clock_timestamp()
  where (rotated_at < clock_timestamp() - interval '10 seconds' or rotated_at > clock_timestamp())
    and cleanable < compacted;
end $fn$;

create or replace function ${schema}.compact(wanted bigint) returns table (${columns})
language plpgsql ${settings} as $fn$
declare
  now bigint;
  gone bigint;
begin
  ${bounded}
  select revision, compacted into now, gone from ${schema}.store for update;
  o_modified := wanted;
  if wanted > now then
    o_kind := ${kind.future}; o_n := now; return next; return;
  elsif wanted <= gone then
    o_kind := ${kind.compacted}; o_n := gone; return next; return;
  end if;
  update ${schema}.store set compacted = wanted;
  perform ${schema}.rotate();
  o_kind := ${kind.revision}; o_n := now; return next;
end $fn$;

-- Deletes what no read at the compacted revision or later can see: of each key, the writes before its last one up to
-- that revision, and that one too if it is a delete. Works through at most so many revisions, and returns whether any are left.
create or replace function ${schema}.clean(most bigint) returns boolean
language plpgsql ${settings} as $fn$
declare
  gone bigint;
  done bigint;
  upto bigint;
  oldest bigint;
begin
  if not pg_try_advisory_xact_lock(hashtextextended(${channel}, 0)) then return false; end if;
  -- Under repeatable read the row of the store could not be updated once another writer has updated it. So the writers
  -- wait, for less work.
  if current_setting('transaction_isolation') <> 'read committed' then
    perform from ${schema}.store for update;
    most := least(most, 1000);
  end if;
  select cleanable, cleaned into gone, done from ${schema}.store;
  if done >= gone then return false; end if;
  upto := least(gone, done + most);
  delete from ${schema}.log o using ${schema}.log n
  where n.revision > done and n.revision <= upto
    and substring(o.key from 1 for 1024) = substring(n.key from 1 for 1024) and o.key = n.key
    and (o.revision, o.sub) < (n.revision, n.sub);
  delete from ${schema}.log o where o.revision > done and o.revision <= upto and o.version = 0;
  ${deleteVoids(schema, "oldest")}
  ${bounded}
  update ${schema}.store set cleaned = upto, oldest_known = greatest(oldest_known, oldest);
  return upto < gone;
end $fn$;
${puts(schema, channel)}${entryWrites(schema, channel)}`
