/**
 * Live configuration: a view of a range, kept current in memory and read without a round trip.
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
  /** The current settings, without a round trip. */
  readonly current: Effect.Effect<Settings, KvError.KvError>
  /** The current settings, then those after each change. A slow reader skips to the newest. */
  readonly changes: Stream.Stream<Settings, KvError.KvError>
}

/** Follows the settings until the scope closes. Keys written in one transaction appear together. */
export const follow: Effect.Effect<LiveSettings, KvError.KvError, Kv.Kv | Scope.Scope> = Effect.gen(function*() {
  const latest = yield* RangeView.make(KeyRange.prefix("config/"))
  return {
    current: Effect.map(latest.snapshot, parse),
    changes: Stream.map(latest.changes, parse)
  }
})

/** A missing or invalid value leaves the default, so that an operator's mistake does not stop the program. */
const parse = ({ entries }: RangeView.Snapshot): Settings => {
  const limit = Number(entries.get("config/limit")?.lossyText ?? "10")
  return {
    limit: Number.isSafeInteger(limit) && limit > 0 ? limit : 10,
    banner: entries.get("config/banner")?.lossyText ?? ""
  }
}

/** Prints the settings while an operator changes them, until the limit is 30. */
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
