create schema if not exists "effect_kv";

create table if not exists "effect_kv".store (
  the_only boolean primary key default true check (the_only),
  revision bigint not null,
  compacted bigint not null,
  pending bigint not null,
  cleanable bigint not null,
  cleaned bigint not null,
  rotated_at timestamptz not null default clock_timestamp(),
  identity uuid not null default gen_random_uuid()
) with (fillfactor = 10);
insert into "effect_kv".store (revision, compacted, pending, cleanable, cleaned) values (1, 0, 0, 0, 0) on conflict do nothing;

create table if not exists "effect_kv".entry (
  key bytea not null,
  value bytea not null,
  create_revision bigint not null,
  mod_revision bigint not null,
  version bigint not null,
  lease bigint not null
) with (fillfactor = 70);
create index if not exists entry_key on "effect_kv".entry (substring(key from 1 for 1024));
create index if not exists entry_lease on "effect_kv".entry (lease) where lease <> 0;

create table if not exists "effect_kv".log (
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
create index if not exists log_key on "effect_kv".log (substring(key from 1 for 1024), revision, sub);

create table if not exists "effect_kv".lease (
  id bigint primary key,
  ttl bigint not null,
  expires_at timestamptz not null
) with (fillfactor = 70);
create index if not exists lease_expires_at on "effect_kv".lease (expires_at);

create table if not exists "effect_kv".void (
  request uuid primary key,
  created_at timestamptz not null default clock_timestamp()
);

create or replace function "effect_kv".holds(c jsonb, data bytea[]) returns boolean
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
  sign int;
begin
  if target = 'b' then
    e := data[(c->>'e')::int];
    n := (c->>'n')::bigint;
    return not exists (
      select from "effect_kv".entry x
      where substring(x.key from 1 for 1024) >= substring(k from 1 for 1024)
        and substring(x.key from 1 for 1024) <= substring(e from 1 for 1024)
        and x.key >= k and x.key < e and x.create_revision >= n
    );
  end if;
  select x.value, x.create_revision, x.mod_revision, x.version, x.lease
  into v, created, modified, versions, leased
  from "effect_kv".entry x
  where substring(x.key from 1 for 1024) = substring(k from 1 for 1024) and x.key = k;
  if target = 'v' then
    if not found then return false; end if;
    e := data[(c->>'v')::int];
    sign := case when v = e then 0 when v < e then -1 else 1 end;
  else
    if not found then
      created := 0; modified := 0; versions := 0; leased := 0;
    end if;
    n := (c->>'n')::bigint;
    sign := sign((case target when 'n' then versions when 'c' then created when 'm' then modified else leased end)::numeric - n);
  end if;
  return case c->>'o' when '=' then sign = 0 when '!=' then sign <> 0 when '<' then sign < 0 else sign > 0 end;
end $fn$;

create or replace function "effect_kv".chosen(op jsonb, data bytea[]) returns jsonb[]
language plpgsql stable as $fn$
declare
  c jsonb;
  o jsonb;
  holds boolean := true;
  steps jsonb[];
begin
  if op->>'t' <> 't' then return array[op]; end if;
  for c in select value from jsonb_array_elements(op->'if') loop
    if not "effect_kv".holds(c, data) then
      holds := false;
      exit;
    end if;
  end loop;
  steps := array[jsonb_build_object('t', 't', 's', holds)];
  for o in select value from jsonb_array_elements(op->(case when holds then 'then' else 'else' end)) loop
    if o->>'t' = 't' then
      steps := steps || "effect_kv".chosen(o, data);
    else
      steps := array_append(steps, o);
    end if;
  end loop;
  return steps;
end $fn$;

create or replace function "effect_kv".range_op(op jsonb, data bytea[], past bigint) returns table (
  o_kind smallint, o_flag boolean, o_n bigint, o_key bytea, o_value bytea,
  o_created bigint, o_modified bigint, o_version bigint, o_lease bigint)
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
          select 1::smallint, null::boolean, null::bigint, x.key,
            case when keys_only then ''::bytea else x.value end, x.create_revision, x.mod_revision, x.version,
            case when keys_only then 0 else x.lease end
          from "effect_kv".entry x
          where substring(x.key from 1 for 1024) >= head1 and substring(x.key from 1 for 1024) <= head2
            and x.key >= first and x.key < last
            and x.mod_revision between min_mod and max_mod and x.create_revision between min_create and max_create
          order by substring(x.key from 1 for 1024), x.key limit lim;
      elsif sorted = 'k' then
        return query
          select 1::smallint, null::boolean, null::bigint, x.key,
            case when keys_only then ''::bytea else x.value end, x.create_revision, x.mod_revision, x.version,
            case when keys_only then 0 else x.lease end
          from "effect_kv".entry x
          where substring(x.key from 1 for 1024) >= head1 and substring(x.key from 1 for 1024) <= head2
            and x.key >= first and x.key < last
            and x.mod_revision between min_mod and max_mod and x.create_revision between min_create and max_create
          order by substring(x.key from 1 for 1024) desc, x.key desc limit lim;
      else
        return query
          select 1::smallint, null::boolean, null::bigint, x.key,
            case when keys_only then ''::bytea else x.value end, x.create_revision, x.mod_revision, x.version,
            case when keys_only then 0 else x.lease end
          from "effect_kv".entry x
          where substring(x.key from 1 for 1024) >= head1 and substring(x.key from 1 for 1024) <= head2
            and x.key >= first and x.key < last
            and x.mod_revision between min_mod and max_mod and x.create_revision between min_create and max_create
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
      from "effect_kv".entry x
      where substring(x.key from 1 for 1024) >= head1 and substring(x.key from 1 for 1024) <= head2
        and x.key >= first and x.key < last;
    else
      total := got;
      passed := got;
    end if;
  else
    if not op ? 'co' then
      return query
        select 1::smallint, null::boolean, null::bigint, x.key,
          case when keys_only then ''::bytea else x.value end, x.create_revision, x.revision, x.version,
          case when keys_only then 0 else x.lease end
        from "effect_kv".at_revision(past, first, last) x
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
    from "effect_kv".at_revision(past, first, last) x;
  end if;
  return query select 0::smallint, coalesce(not op ? 'co' and passed > lim, false), total, null::bytea, null::bytea,
    null::bigint, null::bigint, null::bigint, null::bigint;
end $fn$;

create or replace function "effect_kv".at_revision(past bigint, first bytea, last bytea)
returns table (key bytea, value bytea, revision bigint, create_revision bigint, version bigint, lease bigint)
language sql stable as $fn$
  select l.key, l.value, l.revision, l.create_revision, l.version, l.lease
  from (
    select distinct on (substring(x.key from 1 for 1024), x.key) x.*
    from "effect_kv".log x
    where substring(x.key from 1 for 1024) >= substring(first from 1 for 1024)
      and substring(x.key from 1 for 1024) <= substring(last from 1 for 1024)
      and x.key >= first and x.key < last and x.revision <= past
    order by substring(x.key from 1 for 1024), x.key, x.revision desc, x.sub desc
  ) l
  where l.version <> 0
$fn$;

create or replace function "effect_kv".unreadable(steps jsonb[], now bigint, gone bigint) returns table (
  o_kind smallint, o_flag boolean, o_n bigint, o_key bytea, o_value bytea,
  o_created bigint, o_modified bigint, o_version bigint, o_lease bigint)
language plpgsql immutable as $fn$
declare
  step jsonb;
  wanted bigint;
begin
  foreach step in array steps loop
    continue when not step ? 'rev';
    wanted := (step->>'rev')::bigint;
    if wanted > now or wanted < gone then
      o_kind := case when wanted > now then 9 else 8 end;
      o_n := case when wanted > now then now else gone end;
      o_modified := wanted;
      return next;
      return;
    end if;
  end loop;
end $fn$;

create or replace function "effect_kv".read(op jsonb, data bytea[]) returns table (
  o_kind smallint, o_flag boolean, o_n bigint, o_key bytea, o_value bytea,
  o_created bigint, o_modified bigint, o_version bigint, o_lease bigint)
language plpgsql stable set enable_seqscan = off set jit = off set lock_timeout = '10s' as $fn$
declare
  now bigint;
  gone bigint;
  step jsonb;
  steps jsonb[];
begin
  select revision, compacted into now, gone from "effect_kv".store;
  steps := case when op->>'t' = 't' then "effect_kv".chosen(op, data) else array[op] end;
  if op ? 'past' then
    return query select * from "effect_kv".unreadable(steps, now, gone);
    if found then return; end if;
  end if;
  foreach step in array steps loop
    if step->>'t' = 'r' then
      return query select * from "effect_kv".range_op(
        step, data, case when (step->>'rev')::bigint < now then (step->>'rev')::bigint end
      );
    else
      o_kind := 2; o_flag := (step->>'s')::boolean; return next;
    end if;
  end loop;
  o_kind := 6; o_flag := null; o_n := now; return next;
end $fn$;

-- The most frequent read: one key as it is now.
create or replace function "effect_kv".get_entry(k bytea) returns table (
  o_revision bigint, o_value bytea, o_created bigint, o_modified bigint, o_version bigint, o_lease bigint
)
language plpgsql stable set enable_seqscan = off set jit = off set lock_timeout = '10s' as $fn$
begin
  return query
    select s.revision, x.value, x.create_revision, x.mod_revision, x.version, x.lease
    from "effect_kv".store s left join "effect_kv".entry x
      on substring(x.key from 1 for 1024) = substring(k from 1 for 1024) and x.key = k;
end $fn$;

-- A notification names the keys of its revision, if they are few: a client whose watches have none of them reads nothing.
create or replace function "effect_kv".commit_revision(before bigint, after bigint) returns void
language plpgsql as $fn$
declare
  keys text;
begin
  if after = before then return; end if;
  update "effect_kv".store set revision = after;
  if after = before + 1 then
    select string_agg(encode(x.key, 'hex'), ',') into keys from "effect_kv".log x where x.revision = after
    having count(*) <= 32 and sum(length(x.key)) <= 3000;
  end if;
  perform pg_notify('effect_kv', after || coalesce(' ' || keys, ''));
end $fn$;

create or replace function "effect_kv".end_lease(ended bigint, now bigint, forced boolean) returns bigint
language plpgsql as $fn$
declare
  attached bigint;
  free bigint;
begin
  select count(*) into attached from "effect_kv".entry x where x.lease = ended and x.lease <> 0;
  if attached = 0 then
    delete from "effect_kv".lease x where x.id = ended;
    return now;
  end if;
  if not forced then
    -- A transaction of the application that holds the fence of a key delays the end of the key's lease, not the writers.
    select count(*) into free from (
      select from "effect_kv".entry x where x.lease = ended and x.lease <> 0 for update skip locked
    ) y;
    if free < attached then return now; end if;
  else
    perform from "effect_kv".entry x where x.lease = ended and x.lease <> 0 for update nowait;
  end if;
  delete from "effect_kv".lease x where x.id = ended;
  with gone as (
    delete from "effect_kv".entry x where x.lease = ended and x.lease <> 0 returning x.key
  )
  insert into "effect_kv".log (revision, sub, key, value, create_revision, version, lease)
  select now + 1, row_number() over (order by key) - 1, key, '', 0, 0, 0 from gone;
  return now + 1;
end $fn$;

create or replace function "effect_kv".expire(now bigint) returns bigint
language plpgsql as $fn$
declare
  moment timestamptz := clock_timestamp();
  ended bigint;
begin
  for ended in
    select x.id from "effect_kv".lease x where x.expires_at <= moment order by x.expires_at, x.id for update skip locked
  loop
    now := "effect_kv".end_lease(ended, now, false);
  end loop;
  return now;
end $fn$;

create or replace function "effect_kv".sweep() returns bigint
language plpgsql set enable_seqscan = off set jit = off set lock_timeout = '10s' as $fn$
declare
  before bigint;
  now bigint;
begin
  select revision into before from "effect_kv".store for update;
  now := "effect_kv".expire(before);
  perform "effect_kv".commit_revision(before, now);
  return now;
end $fn$;

create or replace function "effect_kv".write(op jsonb, data bytea[], sender uuid) returns table (
  o_kind smallint, o_flag boolean, o_n bigint, o_key bytea, o_value bytea,
  o_created bigint, o_modified bigint, o_version bigint, o_lease bigint)
language plpgsql set enable_seqscan = off set jit = off set lock_timeout = '10s' as $fn$
#variable_conflict use_column
declare
  before bigint;
  now bigint;
  upcoming bigint;
  gone bigint;
  n integer := 0;
  step jsonb;
  steps jsonb[];
  k bytea;
  e bytea;
  v bytea;
  leased bigint;
  created bigint;
  versions bigint;
  hits bigint;
  moment timestamptz;
begin
  select s.revision, s.compacted into before, gone from "effect_kv".store s for update;
  moment := clock_timestamp();
  if exists (select from "effect_kv".void x where x.request = sender) then
    o_kind := 10; return next; return;
  end if;
  now := before;
  if exists (select from "effect_kv".lease x where x.expires_at <= moment) then now := "effect_kv".expire(before); end if;
  upcoming := now + 1;
  steps := case when op->>'t' = 't' then "effect_kv".chosen(op, data) else array[op] end;
  if op ? 'leases' then foreach step in array steps loop
    continue when not step ? 'lease';
    if not exists (select from "effect_kv".lease x where x.id = (step->>'lease')::bigint and x.expires_at > clock_timestamp()) then
      perform "effect_kv".commit_revision(before, now);
      o_kind := 7; o_n := (step->>'lease')::bigint; return next; return;
    end if;
  end loop; end if;
  if op ? 'past' then
    return query select * from "effect_kv".unreadable(steps, now, gone);
    if found then
      perform "effect_kv".commit_revision(before, now);
      return;
    end if;
  end if;
  foreach step in array steps loop
    case step->>'t'
    when 'p' then
      k := data[(step->>'k')::int];
      v := data[(step->>'v')::int];
      leased := coalesce((step->>'lease')::bigint, 0);
      if step ? 'pv' then
        return query
          select 1::smallint, null::boolean, null::bigint, x.key, x.value, x.create_revision, x.mod_revision,
            x.version, x.lease
          from "effect_kv".entry x
          where substring(x.key from 1 for 1024) = substring(k from 1 for 1024) and x.key = k;
      end if;
      update "effect_kv".entry x set value = v, mod_revision = upcoming, version = x.version + 1, lease = leased
      where substring(x.key from 1 for 1024) = substring(k from 1 for 1024) and x.key = k
      returning x.create_revision, x.version into created, versions;
      if not found then
        created := upcoming;
        versions := 1;
        insert into "effect_kv".entry (key, value, create_revision, mod_revision, version, lease)
        values (k, v, upcoming, upcoming, 1, leased);
      end if;
      insert into "effect_kv".log (revision, sub, key, value, create_revision, version, lease, request)
      values (upcoming, n, k, v, created, versions, leased, case when n = 0 then sender end);
      n := n + 1;
      o_kind := 0; o_flag := null; o_n := 0; return next;
    when 'd' then
      k := data[(step->>'k')::int];
      e := data[(step->>'e')::int];
      if step ? 'pv' then
        return query
          select 1::smallint, null::boolean, null::bigint, x.key, x.value, x.create_revision, x.mod_revision,
            x.version, x.lease
          from "effect_kv".entry x
          where substring(x.key from 1 for 1024) >= substring(k from 1 for 1024)
            and substring(x.key from 1 for 1024) <= substring(e from 1 for 1024) and x.key >= k and x.key < e
          order by x.key;
      end if;
      -- A transaction of the application may hold the fence of a key. The writers behind this one must not wait for it.
      perform from "effect_kv".entry x
      where substring(x.key from 1 for 1024) >= substring(k from 1 for 1024)
        and substring(x.key from 1 for 1024) <= substring(e from 1 for 1024) and x.key >= k and x.key < e
      for update nowait;
      with deleted as (
        delete from "effect_kv".entry x
        where substring(x.key from 1 for 1024) >= substring(k from 1 for 1024)
          and substring(x.key from 1 for 1024) <= substring(e from 1 for 1024) and x.key >= k and x.key < e
        returning x.key
      ), numbered as (select d.key, n + (row_number() over (order by d.key))::int - 1 as sub from deleted d)
      insert into "effect_kv".log (revision, sub, key, value, create_revision, version, lease, request)
      select upcoming, y.sub, y.key, '', 0, 0, 0, case when y.sub = 0 then sender end from numbered y;
      get diagnostics hits = row_count;
      n := n + hits::int;
      o_kind := 0; o_flag := null; o_n := hits; return next;
    when 'r' then
      return query select * from "effect_kv".range_op(
        step, data,
        case when (step->>'rev')::bigint < now or n > 0 then (step->>'rev')::bigint end
      );
    else
      o_kind := 2; o_flag := (step->>'s')::boolean; o_n := null; return next;
    end case;
  end loop;
  if n > 0 then now := upcoming; end if;
  perform "effect_kv".commit_revision(before, now);
  o_kind := 6; o_flag := null; o_n := now; return next;
end $fn$;

-- Whether a request whose response was lost was applied: returns what it wrote, or declares it void, so that it will not be
-- applied when it arrives later.
create or replace function "effect_kv".resolve(sender uuid, since bigint) returns table (
  o_kind smallint, o_flag boolean, o_n bigint, o_key bytea, o_value bytea,
  o_created bigint, o_modified bigint, o_version bigint, o_lease bigint)
language plpgsql set enable_seqscan = off set jit = off set lock_timeout = '10s' as $fn$
#variable_conflict use_column
declare
  gone bigint;
  applied bigint;
begin
  select s.cleanable into gone from "effect_kv".store s for update;
  select x.revision into applied from "effect_kv".log x where x.revision > since and x.request = sender limit 1;
  if applied is not null then
    return query
      select case when x.version = 0 then 4 else 3 end::smallint, null::boolean, null::bigint, x.key,
        ''::bytea, x.create_revision, x.revision, x.version, x.lease
      from "effect_kv".log x where x.revision = applied order by x.sub;
    o_kind := 6; o_n := applied; return next;
  elsif since < gone then
    o_kind := 8; o_n := gone; return next;
  else
    insert into "effect_kv".void (request) values (sender) on conflict do nothing;
    o_kind := 10; return next;
  end if;
end $fn$;

create or replace function "effect_kv".grant_lease(wanted bigint, seconds bigint) returns table (o_id bigint, o_ttl bigint)
language plpgsql set enable_seqscan = off set jit = off set lock_timeout = '10s' as $fn$
declare
  granted bigint;
  now bigint;
begin
  for attempt in 1..2 loop
    granted := coalesce(
      wanted,
      ('x' || left(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint & 9223372036854775807
    );
    insert into "effect_kv".lease (id, ttl, expires_at)
    values (granted, seconds, clock_timestamp() + seconds * interval '1 second') on conflict do nothing;
    if found then
      o_id := granted; o_ttl := seconds; return next;
      perform pg_notify('effect_kv', 'lease');
      return;
    end if;
    perform "effect_kv".sweep();
  end loop;
end $fn$;

create or replace function "effect_kv".revoke_lease(revoked bigint) returns boolean
language plpgsql set enable_seqscan = off set jit = off set lock_timeout = '10s' as $fn$
declare
  before bigint;
  now bigint;
  alive boolean;
begin
  select revision into before from "effect_kv".store for update;
  now := "effect_kv".expire(before);
  select true into alive from "effect_kv".lease x where x.id = revoked and x.expires_at > clock_timestamp() for update;
  if alive then now := "effect_kv".end_lease(revoked, now, true); end if;
  perform "effect_kv".commit_revision(before, now);
  return coalesce(alive, false);
end $fn$;

create or replace function "effect_kv".changes(
  since bigint, opening boolean, first bytea, last bytea, only_kind smallint, with_previous boolean, max_rows integer,
  max_bytes bigint
) returns table (
  o_kind smallint, o_flag boolean, o_n bigint, o_key bytea, o_value bytea,
  o_created bigint, o_modified bigint, o_version bigint, o_lease bigint)
language plpgsql stable set enable_seqscan = off set jit = off set lock_timeout = '10s' as $fn$
#variable_conflict use_column
declare
  now bigint;
  gone bigint;
  lost bigint;
  r record;
  p record;
  reached bigint;
  emitted integer := 0;
  bytes bigint := 0;
begin
  select s.revision, s.compacted, s.cleanable into now, gone, lost from "effect_kv".store s;
  since := coalesce(since, now + 1);
  if since <= (case when opening then gone else lost end) then
    o_kind := 8; o_n := gone; return next; return;
  end if;
  for r in
    select x.revision, x.sub, x.key, x.value, x.create_revision, x.version, x.lease from "effect_kv".log x
    where x.revision >= since and x.key >= first and x.key < last
      and (only_kind is null or (x.version = 0) = (only_kind = 4))
    order by x.revision, x.sub
  loop
    if r.revision is distinct from reached then
      if emitted >= max_rows or bytes >= max_bytes then
        o_kind := 6; o_n := reached; o_key := null; o_value := null; return next; return;
      end if;
      reached := r.revision;
    end if;
    if with_previous then
      select x.key, x.value, x.revision, x.create_revision, x.version, x.lease into p from "effect_kv".log x
      where substring(x.key from 1 for 1024) = substring(r.key from 1 for 1024) and x.key = r.key
        and x.revision < r.revision
      order by x.revision desc, x.sub desc limit 1;
      if found and p.version <> 0 then
        o_kind := 5; o_n := null; o_key := p.key; o_value := p.value; o_created := p.create_revision;
        o_modified := p.revision; o_version := p.version; o_lease := p.lease; return next;
      end if;
    end if;
    o_kind := case when r.version = 0 then 4 else 3 end;
    o_n := null; o_key := r.key; o_value := r.value; o_created := r.create_revision;
    o_modified := r.revision; o_version := r.version; o_lease := r.lease; return next;
    emitted := emitted + 1;
    bytes := bytes + length(r.key) + length(r.value);
  end loop;
  o_kind := 6; o_n := greatest(now, since - 1); o_key := null; o_value := null; return next;
end $fn$;

create or replace function "effect_kv".rotate() returns void
language plpgsql as $fn$
begin
  update "effect_kv".store set cleanable = pending, pending = compacted, rotated_at = clock_timestamp()
  where rotated_at < clock_timestamp() - interval '10 seconds' and cleanable < compacted;
end $fn$;

create or replace function "effect_kv".compact(wanted bigint) returns table (
  o_kind smallint, o_flag boolean, o_n bigint, o_key bytea, o_value bytea,
  o_created bigint, o_modified bigint, o_version bigint, o_lease bigint)
language plpgsql set enable_seqscan = off set jit = off set lock_timeout = '10s' as $fn$
declare
  now bigint;
  gone bigint;
begin
  select revision, compacted into now, gone from "effect_kv".store for update;
  o_modified := wanted;
  if wanted > now then
    o_kind := 9; o_n := now; return next; return;
  elsif wanted <= gone then
    o_kind := 8; o_n := gone; return next; return;
  end if;
  update "effect_kv".store set compacted = wanted;
  perform "effect_kv".rotate();
  o_kind := 6; o_n := now; return next;
end $fn$;

-- Deletes what no read at the compacted revision or later can see: of each key, the writes before its last one up to
-- that revision, and that one too if it is a delete. Works through at most so many revisions, and returns whether any are left.
create or replace function "effect_kv".clean(most bigint) returns boolean
language plpgsql set enable_seqscan = off set jit = off set lock_timeout = '10s' as $fn$
declare
  gone bigint;
  done bigint;
  upto bigint;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('effect_kv', 0)) then return false; end if;
  select cleanable, cleaned into gone, done from "effect_kv".store;
  if done >= gone then return false; end if;
  upto := least(gone, done + most);
  delete from "effect_kv".log o using "effect_kv".log n
  where n.revision > done and n.revision <= upto
    and substring(o.key from 1 for 1024) = substring(n.key from 1 for 1024) and o.key = n.key
    and (o.revision, o.sub) < (n.revision, n.sub);
  delete from "effect_kv".log o where o.revision > done and o.revision <= upto and o.version = 0;
  delete from "effect_kv".void x where x.created_at < clock_timestamp() - interval '1 hour';
  update "effect_kv".store set cleaned = upto;
  return upto < gone;
end $fn$;

create or replace function "effect_kv".schema_version() returns integer language sql immutable as $fn$ select 1 $fn$;

create or replace function "effect_kv".fenced(conditions jsonb, data bytea[], idle_millis integer) returns integer
language plpgsql set enable_seqscan = off as $fn$
declare
  c jsonb;
  k bytea;
  n integer := 0;
begin
  for c in select value from jsonb_array_elements(conditions) loop
    n := n + 1;
    k := data[(c->>'k')::int];
    perform from "effect_kv".entry x
    where substring(x.key from 1 for 1024) = substring(k from 1 for 1024) and x.key = k
    for key share;
    if not found or not "effect_kv".holds(c, data) then return n; end if;
  end loop;
  perform set_config('idle_in_transaction_session_timeout', idle_millis::text, true);
  return 0;
end $fn$;
