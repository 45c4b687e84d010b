/**
 * The implementation of `PostgresStore`.
 */
import type * as Kv from "@effect-kv/core/Kv"
import * as Effect from "effect/Effect"
import type { PostgresStore } from "../PostgresStore.ts"
import * as calls from "./calls.ts"
import type { Connection } from "./connection.ts"
import * as fence from "./fence.ts"
import { rejection } from "./items.ts"

export const make = (to: Connection, kv: Kv.Kv): typeof PostgresStore.Service => ({
  schema: to.settings.schema,
  fence: fence.make(to, kv),
  compact: (revision) =>
    Effect.flatMap(to.read(calls.compact(to, revision)), (rows) => {
      const rejected = rejection(calls.itemsOf(rows))
      return rejected === undefined ? Effect.void : Effect.fail(rejected)
    })
})
