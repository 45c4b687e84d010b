/**
 * Settings that reload: a view of a range, kept current in memory and read without a round trip.
 *
 *     node examples/src/ConfigReload.ts
 *     KV_URL=http://127.0.0.1:2379 node examples/src/ConfigReload.ts
 */
import { KeyRange, Kv, type KvError, type RangeView } from "@effect-kv/core"
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
  /**
   * The current settings, then the new ones after each change. A slow reader gets the latest ones, not every one in
   * between.
   */
  readonly changes: Stream.Stream<Settings, KvError.KvError>
}

/** Follows the settings until the scope closes. Two keys written in one transaction always change together. */
export const follow: Effect.Effect<LiveSettings, KvError.KvError, Kv.Kv | Scope.Scope> = Effect.gen(function*() {
  const kv = yield* Kv.Kv
  const latest = yield* kv.view(KeyRange.prefix("config/"))
  return {
    current: Effect.map(latest.snapshot, parse),
    changes: Stream.map(latest.changes, parse)
  }
})

/** Falls back to the default if a key is missing or invalid, so an operator's mistake does not stop the program. */
const parse = ({ entries }: RangeView.Snapshot): Settings => {
  const limit = Number(entries.get("config/limit")?.text ?? "10")
  return {
    limit: Number.isSafeInteger(limit) && limit > 0 ? limit : 10,
    banner: entries.get("config/banner")?.text ?? ""
  }
}

/** Prints the settings while an operator changes them, until the limit is 30. */
export const program = Effect.gen(function*() {
  const kv = yield* Kv.Kv
  yield* kv.delete(KeyRange.prefix("config/"))
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
