/**
 * Settings follow the store, and an operator's mistake does not stop the program.
 */
import { Kv, Op } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as ConfigReload from "../src/ConfigReload.ts"

const until = (settings: ConfigReload.LiveSettings, is: (settings: ConfigReload.Settings) => boolean) =>
  settings.changes.pipe(Stream.filter(is), Stream.take(1), Stream.runDrain)

it.effect("settings are the defaults, then what is written, and the defaults again when that is deleted", () =>
  Effect.gen(function*() {
    const kv = yield* Kv.Kv
    const settings = yield* ConfigReload.follow
    assert.deepStrictEqual(yield* settings.current, { limit: 10, banner: "" })

    yield* kv.txn({ then: [Op.put("config/limit", "20"), Op.put("config/banner", "hello")] })
    yield* until(settings, ({ limit }) => limit === 20)
    assert.deepStrictEqual(yield* settings.current, { limit: 20, banner: "hello" })

    yield* kv.delete("config/limit")
    yield* until(settings, ({ limit }) => limit === 10)
    assert.deepStrictEqual(yield* settings.current, { limit: 10, banner: "hello" })
  }).pipe(Effect.provide(MemoryLayer.layer)))

it.effect("a limit that is not a positive number leaves the default", () =>
  Effect.gen(function*() {
    const kv = yield* Kv.Kv
    const settings = yield* ConfigReload.follow
    for (const [index, limit] of ["many", "-1", "0", "1.5", ""].entries()) {
      yield* kv.txn({ then: [Op.put("config/limit", limit), Op.put("config/banner", `${index}`)] })
      yield* until(settings, ({ banner }) => banner === `${index}`)
      assert.strictEqual((yield* settings.current).limit, 10)
    }
  }).pipe(Effect.provide(MemoryLayer.layer)))
