/**
 * Live configuration: typed settings that follow the store, and that an operator's mistake does not end.
 *
 *     node examples/src/ConfigReload.ts
 *     KV_URL=http://127.0.0.1:2379 node examples/src/ConfigReload.ts
 */
import { KeyRange, Kv, KvConfig } from "@effect-kv/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as StoreByUrl from "./StoreByUrl.ts"

const Limit = Schema.Int.check(Schema.isGreaterThan(0))

/** What is missing has a default. What is wrong is rejected, and the last good settings stay in use. */
export const settings = Config.all({
  limit: Config.withDefault(Config.schema(Limit, "limit"), 10),
  banner: Config.withDefault(Config.String("banner"), "")
})

/** Prints the settings while an operator changes them, until the limit is 30. */
export const program = Effect.gen(function*() {
  const kv = yield* Kv.Kv
  yield* kv.deleteRange(KeyRange.prefix("config/"))
  yield* Effect.gen(function*() {
    const live = yield* KvConfig.ref(settings)
    yield* Effect.gen(function*() {
      for (const limit of ["20", "many", "30"]) {
        yield* Effect.sleep("200 millis")
        yield* kv.put("config/limit", limit)
      }
    }).pipe(Effect.forkScoped)
    yield* live.states.pipe(
      Stream.takeUntil(({ value }) => value.limit === 30),
      Stream.runForEach(({ rejected, value }) =>
        Console.log(
          `the limit is ${value.limit}${
            Option.match(rejected, { onNone: () => "", onSome: ({ message }) => ` (${message})` })
          }`
        )
      )
    )
  }).pipe(Effect.scoped, Effect.provide(KvConfig.layer("config/")))
})

if (process.argv[1] === import.meta.filename) {
  NodeRuntime.runMain(
    program.pipe(
      Effect.provide(Kv.layerPrefixed("examples/config-reload/")),
      Effect.provide(StoreByUrl.layer)
    )
  )
}
