/**
 * Users are counted exactly, and an entry that another program has broken hides no other.
 */
import { Kv } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as UserRegistry from "../src/UserRegistry.ts"

it.effect("every login counts, and a broken entry is reported beside the others", () =>
  Effect.gen(function*() {
    const ids = ["ada", "carl"].map((id) => UserRegistry.UserId.make(id))
    yield* Effect.forEach(
      Array.from({ length: 20 }, (_, i) => i),
      (i) => UserRegistry.login(ids[i % 2]!, new Date(i)),
      { concurrency: "unbounded" }
    )
    yield* Kv.put("users/bert", "{")
    assert.deepStrictEqual(yield* UserRegistry.report, ["ada: 10", "unreadable: users/bert", "carl: 10"])
  }).pipe(Effect.provide(MemoryLayer.layer)))
