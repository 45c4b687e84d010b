/**
 * The cases of all modules in memory, under the test clock.
 */
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as keyValueStore from "./cases/keyValueStore.ts"
import * as persistedCache from "./cases/persistedCache.ts"
import * as persistence from "./cases/persistence.ts"
import * as rateLimiter from "./cases/rateLimiter.ts"
import { type Case, inMemory } from "./support/store.ts"

const suite = (name: string, cases: ReadonlyArray<Case>) =>
  describe(`${name} in memory`, () => {
    for (const { run, title } of cases) it.effect(title, () => Effect.provide(Effect.scoped(run), inMemory))
  })

suite("KeyValueStore", keyValueStore.cases)
suite("Persistence", persistence.cases)
suite("PersistedCache", persistedCache.cases(50))
suite("RateLimiter", rateLimiter.cases(6))
