/**
 * Settings follow the store, and an operator's mistake does not stop the program.
 */
import { Kv, KvConfig, Op } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { settings } from "../src/ConfigReload.ts"

const until = <A>({ states }: KvConfig.Live<A>, is: (state: KvConfig.State<A>) => boolean) =>
  states.pipe(Stream.filter(is), Stream.runHead, Effect.map(Option.getOrThrow))

it.effect("settings are the defaults, then what is written, and the defaults again when that is deleted", () =>
  Effect.gen(function*() {
    const kv = yield* Kv.Kv
    const live = yield* Effect.flatMap(KvConfig.make("config/"), (config) => config.ref(settings))
    assert.deepStrictEqual(yield* live.get, { limit: 10, banner: "" })

    yield* kv.txn({ then: [Op.put("config/limit", "20"), Op.put("config/banner", "hello")] })
    yield* until(live, ({ value }) => value.limit === 20)
    assert.deepStrictEqual(yield* live.get, { limit: 20, banner: "hello" })

    yield* kv.delete("config/limit")
    yield* until(live, ({ value }) => value.limit === 10)
    assert.deepStrictEqual(yield* live.get, { limit: 10, banner: "hello" })
  }).pipe(Effect.provide(MemoryLayer.layer)))

it.effect("a limit that is not a positive number leaves the last good settings", () =>
  Effect.gen(function*() {
    const kv = yield* Kv.Kv
    yield* kv.put("config/limit", "20")
    const live = yield* Effect.flatMap(KvConfig.make("config/"), (config) => config.ref(settings))
    for (const limit of ["many", "-1", "0", "1.5"]) {
      const { revision } = yield* kv.put("config/limit", limit)
      const state = yield* until(
        live,
        ({ rejected }) => Option.exists(rejected, (found) => found.revision === revision)
      )
      assert.deepStrictEqual(state.value, { limit: 20, banner: "" })
    }
  }).pipe(Effect.provide(MemoryLayer.layer)))
