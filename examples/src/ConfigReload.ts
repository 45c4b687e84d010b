/**
 * Settings that reload themselves: a view of a range, kept current in memory, read without a round trip.
 *
 *     node examples/src/ConfigReload.ts
 *     KV_URL=http://127.0.0.1:2379 node examples/src/ConfigReload.ts
 */
import { KeyRange, Kv, type KvError, RangeView } from "@effect-kv/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as StoreByUrl from "./StoreByUrl.ts"

export interface Settings {
  readonly limit: number
  readonly banner: string
}

export interface LiveSettings {
  /** The settings as they are now. No round trip. */
  readonly current: Effect.Effect<Settings, KvError.KvError>
  /** The settings now, then after each change. Who reads slowly gets the newest, not every one in between. */
  readonly changes: Stream.Stream<Settings, KvError.KvError>
}

/** Follows the settings until the scope closes. Two keys written in one transaction are seen together, never one alone. */
export const follow: Effect.Effect<LiveSettings, KvError.KvError, Kv.Kv | Scope.Scope> = Effect.gen(function*() {
  const latest = yield* RangeView.make(KeyRange.prefix("config/"))
  return {
    current: Effect.map(latest.snapshot, parse),
    changes: Stream.map(latest.changes, parse)
  }
})

/** A key that is missing or makes no sense leaves the default: an operator's slip must not take the program down. */
const parse = ({ entries }: RangeView.Snapshot): Settings => {
  const limit = Number(entries.get("config/limit")?.lossyText ?? "10")
  return {
    limit: Number.isSafeInteger(limit) && limit > 0 ? limit : 10,
    banner: entries.get("config/banner")?.lossyText ?? ""
  }
}

/** Shows the settings as an operator changes them, until the limit is 30. */
export const program = Effect.gen(function*() {
  const kv = yield* Kv.Kv
  yield* kv.deleteRange(KeyRange.prefix("config/"))
  const settings = yield* follow
  yield* Effect.gen(function*() {
    for (const limit of ["20", "many", "30"]) {
      yield* Effect.sleep("200 millis")
      yield* kv.put("config/limit", limit)
    }
  }).pipe(Effect.forkScoped)
  yield* settings.changes.pipe(
    Stream.takeUntil(({ limit }) => limit === 30),
    Stream.runForEach(({ limit }) => Console.log(`the limit is ${limit}`))
  )
})

if (process.argv[1] === import.meta.filename) {
  NodeRuntime.runMain(
    program.pipe(
      Effect.scoped,
      Effect.provide(Kv.layerPrefixed("examples/config-reload/")),
      Effect.provide(StoreByUrl.layer)
    )
  )
}
