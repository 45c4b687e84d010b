/**
 * The calls of the schema's functions.
 */
import type * as KvError from "@effect-kv/core/KvError"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { Interval } from "./bytes.ts"
import type { Connection } from "./connection.ts"
import type { Encoded, Puts } from "./encode.ts"
import type { EntryWrite } from "./entryWrite.ts"
import type { Position, Sent } from "./identity.ts"
import { type Item, positionOf } from "./items.ts"
import type { Row, Statement } from "./statement.ts"

/** The edge to SQL: rows of the schema's functions have the columns of an item. */
export const itemsOf = (rows: ReadonlyArray<Row>): ReadonlyArray<Item> => rows as unknown as ReadonlyArray<Item>

/** The position of the store in the items of a response. */
export const positionIn = (rows: ReadonlyArray<Row>): Position | undefined => positionOf(itemsOf(rows))

export const bytesArray = (values: ReadonlyArray<Uint8Array>): PgTypes.Parameter =>
  Result.getOrThrow(PgTypes.array(values, PgTypes.OID.bytea))

export const read = (to: Connection, { data, json }: Encoded): Statement => ({
  sql: `select * from ${to.schema}.read($1, $2)`,
  params: [PgTypes.jsonb(json), bytesArray(data)]
})

/** A read that a standby may answer, too. */
export const readAny = (to: Connection, { data, json }: Encoded): Statement =>
  read(to, { data, json: { ...json, any: true } })

export const getEntry = (to: Connection, key: Uint8Array): Statement => ({
  sql: `select * from ${to.schema}.entry_now($1)`,
  params: [PgTypes.bytea(key)]
})

/** What the client knows: no epoch and revision 0 before the first response. */
const encodeSent = ({ epoch, revision }: Sent): Record<string, string> => ({
  ...(epoch === undefined ? {} : { ke: `${epoch}` }),
  kr: `${revision}`
})

// A write says what its client knew when it was made, and is declared void with the same: see `schema/voids.ts`.

export const write = (to: Connection, { data, json }: Encoded, request: string, sent: Sent): Statement => ({
  sql: `select * from ${to.schema}.write($1, $2, $3)`,
  params: [PgTypes.jsonb({ ...json, ...encodeSent(sent) }), bytesArray(data), PgTypes.uuid(request)],
  declareVoid: resolve(to, request, sent.revision)
})

export const putEntries = (to: Connection, { keys, values }: Puts, request: string, sent: Sent): Statement => ({
  sql: `select * from ${to.schema}.put_entries($1, $2, $3, $4)`,
  params: [bytesArray(keys), bytesArray(values), PgTypes.uuid(request), PgTypes.int8(sent.revision)],
  declareVoid: resolve(to, request, sent.revision)
})

export const writeEntry = (
  to: Connection,
  { condition, key, lease, newestIn, value }: EntryWrite,
  request: string,
  sent: Sent
): Statement => ({
  sql: `select * from ${to.schema}.write_entry($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
  params: [
    PgTypes.bytea(condition?.key ?? null),
    PgTypes.bool(condition?.target === "ModRevision"),
    PgTypes.int8(condition?.revision ?? null),
    PgTypes.bytea(key),
    PgTypes.bytea(value ?? null),
    PgTypes.int8(lease),
    PgTypes.bytea(newestIn?.start ?? null),
    PgTypes.bytea(newestIn?.end ?? null),
    PgTypes.uuid(request),
    PgTypes.int8(sent.epoch ?? null),
    PgTypes.int8(sent.revision)
  ],
  declareVoid: resolve(to, request, sent.revision)
})

export const resolve = (to: Connection, request: string, since: bigint): Statement => ({
  sql: `select * from ${to.schema}.resolve($1, $2)`,
  params: [PgTypes.uuid(request), PgTypes.int8(since)]
})

export const grantLease = (to: Connection, id: bigint | undefined, seconds: number): Statement => ({
  sql: `select * from ${to.schema}.grant_lease($1, $2)`,
  params: [PgTypes.int8(id ?? null), PgTypes.int8(BigInt(seconds))]
})

export const keepLeaseAlive = (to: Connection, id: bigint): Statement => ({
  sql: `update ${to.schema}.lease set expires_at = clock_timestamp() + ttl * interval '1 second'
    where id = $1 and expires_at > clock_timestamp()
    returning ttl, case when current_setting('synchronous_commit') = 'off'
      then set_config('synchronous_commit', 'local', true) end,
    case when current_setting('transaction_timeout', true) = '0'
      then set_config('transaction_timeout', '15s', true) end`,
  params: [PgTypes.int8(id)]
})

export const revokeLease = (to: Connection, id: bigint): Statement => ({
  sql: `select ${to.schema}.revoke_lease($1)`,
  params: [PgTypes.int8(id)]
})

export const leaseTimeToLive = (to: Connection, id: bigint): Statement => ({
  sql: `select ttl, floor(extract(epoch from expires_at - clock_timestamp()))::bigint from ${to.schema}.lease
    where id = $1 and expires_at > clock_timestamp() and ${to.schema}.primary_only()`,
  params: [PgTypes.int8(id)]
})

export const leaseKeys = (to: Connection, id: bigint): Statement => ({
  sql:
    `select key from ${to.schema}.entry where lease = $1 and lease <> 0 and ${to.schema}.primary_only() order by key`,
  params: [PgTypes.int8(id)]
})

export interface ChangesOptions {
  /** The first revision; `undefined` for the next one. */
  readonly since: bigint | undefined
  /** Whether a watch is opened: a watch that is open already may read what was compacted seconds ago. */
  readonly isOpening: boolean
  readonly interval: Interval
  /** A kind of item; `undefined` for both. */
  readonly only: number | undefined
  readonly previous: boolean
}

/** At most so many events and bytes are read at once. A revision is never split. */
const maxEvents = 1024
const maxBytes = 4 * 1024 * 1024

/** Whether there may be more changes than were read: the functions stop after the revision that reaches a limit. */
export const isFullPage = (changes: ReadonlyArray<{ readonly bytes: number }>): boolean =>
  changes.length >= maxEvents || changes.reduce((sum, { bytes }) => sum + bytes, 0) >= maxBytes

export const changes = (to: Connection, { interval, isOpening, only, previous, since }: ChangesOptions): Statement => ({
  sql: `select * from ${to.schema}.changes($1, $2, $3, $4, $5, $6, $7, $8)`,
  params: [
    PgTypes.int8(since ?? null),
    PgTypes.bool(isOpening),
    PgTypes.bytea(interval.start),
    PgTypes.bytea(interval.end),
    PgTypes.int2(only ?? null),
    PgTypes.bool(previous),
    PgTypes.int4(maxEvents),
    PgTypes.int8(BigInt(maxBytes))
  ]
})

/** A notification that only shows that notifications arrive. */
export const notifySelf = (to: Connection): Statement => ({
  sql: "select pg_notify($1, 'listening')",
  params: [PgTypes.text(to.settings.schema)]
})

export const sweep = (to: Connection): Statement => ({ sql: `select ${to.schema}.sweep()`, params: [] })

export const compact = (to: Connection, revision: bigint): Statement => ({
  sql: `select * from ${to.schema}.compact($1)`,
  params: [PgTypes.int8(revision)]
})

export const rotate = (to: Connection): Statement => ({ sql: `select ${to.schema}.rotate()`, params: [] })

export const clean = (to: Connection, most: bigint): Statement => ({
  sql: `select ${to.schema}.clean($1)`,
  params: [PgTypes.int8(most)]
})

/** The state of the store: its revision, its compacted revision, and how long until the next lease ends. */
export const state = (to: Connection): Statement => ({
  sql: `select revision, epoch, compacted, cleanable, cleaned,
      (select greatest(0, least(extract(epoch from min(expires_at) - clock_timestamp()) * 1000, 3600000))::bigint
       from ${to.schema}.lease)
    from ${to.schema}.store where ${to.schema}.primary_only()`,
  params: []
})

export interface State {
  readonly revision: bigint
  readonly compacted: bigint
  readonly cleanable: bigint
  readonly cleaned: bigint
  /** Milliseconds; `undefined` without a lease. */
  readonly nextExpiry: number | undefined
}

const positionInState = ([row]: ReadonlyArray<Row>): Position => ({
  revision: row![0] as bigint,
  epoch: row![1] as bigint
})

export const readState = (to: Connection): Effect.Effect<State, KvError.KvError> =>
  Effect.map(to.read(state(to), positionInState), (rows) => {
    const [revision, , compacted, cleanable, cleaned, nextExpiry] = rows[0] as readonly [
      bigint,
      bigint,
      bigint,
      bigint,
      bigint,
      bigint | null
    ]
    return {
      revision,
      compacted,
      cleanable,
      cleaned,
      nextExpiry: nextExpiry === null ? undefined : Number(nextExpiry)
    }
  })
