/**
 * A recording of all changes of a store in Postgres, read from its log by plain SQL.
 *
 * Every read must find the next revisions without a gap. Otherwise a revision became visible before an earlier one, and
 * the recording fails.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { type Change, type Recording, StoreError } from "../Store.ts"
import type { Sql } from "./sql.ts"

interface Row {
  readonly key: string
  readonly value: Uint8Array
  readonly revision: bigint
  readonly sub: number
  readonly create_revision: bigint
  readonly version: bigint
  readonly lease: bigint
}

/** How many revisions one read returns at most. */
const atOnce = 5000n

/** Records all changes from a revision on, until the scope closes. */
export const record = Effect.fnUntraced(function*(sql: Sql, first: bigint) {
  const changes: Array<Change> = []
  let next = first
  let broken: StoreError | undefined
  const step = Effect.gen(function*() {
    const rows = yield* sql.query<Row>(
      `select convert_from(key, 'UTF8') as key, value, revision, sub, create_revision, version, lease
      from effect_kv.log where revision >= $1 and revision < $2 order by revision, sub`,
      [next, next + atOnce]
    )
    let expected = next
    let sub = 0
    for (const row of rows) {
      if (row.revision === expected && row.sub === sub) sub++
      else if (row.revision === expected + 1n && row.sub === 0 && sub > 0) {
        expected = row.revision
        sub = 1
      } else {
        const message = `the log has ${row.revision}.${row.sub} where ${expected}.${sub} or the next revision must be`
        return yield* new StoreError({ message })
      }
      changes.push(changeOf(row))
    }
    if (rows.length > 0) next = expected + 1n
  })
  const recording = Effect.forever(Effect.andThen(step, Effect.sleep("50 millis")))
  yield* Effect.forkScoped(Effect.catch(recording, (error) => Effect.sync(() => void (broken = error))))
  const upTo: Recording["upTo"] = (revision) =>
    Effect.suspend(() =>
      broken !== undefined
        ? Effect.fail(broken)
        : next > revision
        ? Effect.succeed(changes.filter(({ modRevision }) => modRevision <= revision))
        : Effect.undefined
    ).pipe(
      Effect.repeat({ until: (found) => found !== undefined, schedule: Schedule.spaced("20 millis") }),
      Effect.map((found) => found ?? []),
      Effect.timeoutOrElse({
        duration: "60 seconds",
        orElse: () =>
          Effect.fail(new StoreError({ message: `revision ${revision} was not recorded; the next one is ${next}` }))
      })
    )
  return { upTo } satisfies Recording
})

const decoder = new TextDecoder()

const changeOf = ({ create_revision, key, lease, revision, value, version }: Row): Change => ({
  type: version === 0n ? "delete" : "put",
  key,
  value: decoder.decode(value),
  valueBytes: value,
  modRevision: revision,
  createRevision: create_revision,
  version,
  lease
})
