/**
 * Work of an application with a table of its own in the database of the store: invoices under a lock, each in a transaction
 * with the fence of the lock. Half of the holders cannot be interrupted, as one that is stopped: only the fence stops them.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { isSqlError } from "effect/sql/SqlError"
import type { Invoice, Notes } from "../Notes.ts"
import * as locks from "./locks.ts"
import type { Application, RecordedClient, Step } from "./Worker.ts"
import { unique } from "./Worker.ts"

/** The lock of the invoices of a round. */
export const billingLock = (prefix: string): string => `${prefix}billing/lock/0`

/** Whether a key is of this work, whose calls are not recorded. */
export const isOfBilling = (prefix: string, key: string): boolean => key.startsWith(`${prefix}billing/`)

/** The application's table. `number` counts the invoices of a round, `token` is that of the lock. */
export const createTable = `
  create table if not exists invoice (
    id bigserial primary key, prefix text not null, number bigint not null, token bigint not null, mark text not null
  )`

/** Bills. */
export const bill: Step = (client, random) =>
  client.application === undefined ? Effect.void : billing(client, client.application, {
    meanwhile: Effect.sleep(random.chance(0.2) ? random.int(100, 1500) : random.int(0, 20)),
    fencesFirst: random.chance(0.5),
    isStubborn: random.chance(0.5),
    acquireTimeout: random.int(2000, 8000),
    ttl: locks.ttl
  })

/** How a holder bills. */
export interface Billing {
  /** What it does in the middle of its transaction. */
  readonly meanwhile: Effect.Effect<void>
  /** Whether the fence is the first statement of the transaction, or comes after what it reads. */
  readonly fencesFirst: boolean
  /** Whether the loss of the lock does not interrupt it. */
  readonly isStubborn: boolean
  readonly acquireTimeout: number
  readonly ttl: Duration.Input
}

export const billing = Effect.fnUntraced(function*(
  client: RecordedClient,
  { kv, sql, store }: Application,
  { acquireTimeout, fencesFirst, isStubborn, meanwhile, ttl }: Billing
) {
  const { notes, prefix } = client
  const mark = yield* unique(client)
  const transaction = ({ token }: DistLock.Lock) =>
    sql.withTransaction(Effect.gen(function*() {
      if (fencesFirst) yield* store.fence
      const rows = yield* sql<{ readonly last: bigint }>`
        select coalesce(max(number), 0)::bigint as last from invoice where prefix = ${prefix}`
      yield* meanwhile
      if (!fencesFirst) yield* store.fence
      yield* sql`
        insert into invoice (prefix, number, token, mark)
        values (${prefix}, ${rows[0]!.last + 1n}, ${token}, ${mark})`
    }))
  const body = (lock: DistLock.Lock) =>
    Effect.uninterruptibleMask((restore) =>
      (isStubborn ? transaction(lock) : restore(transaction(lock))).pipe(
        Effect.onExit((exit) => Effect.sync(() => void notes.invoices.push({ mark, outcome: outcomeOf(exit) }))),
        Effect.catchCause(expected)
      )
    )
  yield* DistLock.use(billingLock(prefix), body, { ttl, description: client.name, acquireTimeout }).pipe(
    Effect.provideService(Kv.Kv, kv)
  )
})

/** What the driver reports is none of the library's errors. It dies of a rollback that fails on a broken connection. */
const expected = (cause: Cause.Cause<unknown>): Effect.Effect<void> => {
  const defect = cause.reasons.find((reason) => reason._tag === "Die" && !isSqlError(reason.defect))
  return defect === undefined ? Effect.void : Effect.die(Cause.squash(cause))
}

/** What is known of a transaction. One that the fence rejected was rolled back. */
const outcomeOf = (exit: Exit.Exit<unknown, unknown>): Invoice["outcome"] => {
  if (Exit.isSuccess(exit)) return "Accepted"
  const error = Cause.findErrorOption(exit.cause)
  return error._tag === "Some" && KvError.isKvError(error.value) && error.value.reason._tag === "LockLost"
    ? "Rejected"
    : "Unknown"
}

/** A row of the table. */
export interface Row {
  readonly number: bigint
  readonly token: bigint
  readonly mark: string
}

/** What is wrong with the invoices of a round, in the order of their transactions, as messages. */
export const find = (rows: ReadonlyArray<Row>, { invoices }: Pick<Notes, "invoices">): ReadonlyArray<string> => {
  const marks = new Set(rows.map(({ mark }) => mark))
  return [
    ...rows.flatMap(({ number, token }, i) => {
      const before = rows[i - 1] ?? { number: 0n, token: 0n }
      return number === before.number + 1n && token >= before.token ? [] : [
        `the invoice ${number} with token ${token} follows the invoice ${before.number} with token ${before.token}`
      ]
    }),
    ...invoices.flatMap(({ mark, outcome }) =>
      outcome === "Accepted" && !marks.has(mark)
        ? [`the transaction of the invoice ${mark} was committed, and it is not there`]
        : outcome === "Rejected" && marks.has(mark)
        ? [`the transaction of the invoice ${mark} was rejected, and it is there`]
        : []
    )
  ]
}
