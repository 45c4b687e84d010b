/**
 * The implementation of `PostgresStore`.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import type * as Kv from "@effect-kv/core/Kv"
import * as Effect from "effect/Effect"
import type { PostgresStore } from "../PostgresStore.ts"
import * as calls from "./calls.ts"
import type { Connection, Row } from "./connection.ts"
import * as fence from "./fence.ts"
import { kind, nOf, rejection } from "./items.ts"

export const make = (to: Connection, kv: Kv.Kv): typeof PostgresStore.Service => ({
  schema: to.settings.schema,
  fence: fence.make(to, kv),
  compact: (revision) => {
    const statement = calls.compact(to, revision)
    const again = Effect.map(to.read(statement), (rows) => isCompactedAt(rows, revision) ? [] : rows)
    return Effect.flatMap(to.write(statement, (remaining) => Deadline.within(again, remaining)), (rows) => {
      const rejected = rejection(calls.itemsOf(rows))
      return rejected === undefined ? Effect.void : Effect.fail(rejected)
    })
  }
})

/** Whether the store is compacted at just this revision, as after a compaction whose response was lost. */
const isCompactedAt = (rows: ReadonlyArray<Row>, revision: bigint): boolean => {
  const [item] = calls.itemsOf(rows)
  return item?.[0] === kind.compacted && nOf(item) === revision
}
