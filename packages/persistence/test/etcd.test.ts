/**
 * The cases of all modules on a real etcd: one server for all, a namespace for each.
 */
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as keyValueStore from "./cases/keyValueStore.ts"
import * as persistedCache from "./cases/persistedCache.ts"
import * as persistence from "./cases/persistence.ts"
import * as rateLimiter from "./cases/rateLimiter.ts"
import { type Case, onEtcd } from "./support/store.ts"

layer(EtcdCluster.layer(), { excludeTestServices: true })("on etcd", (it) => {
  const suite = (name: string, cases: ReadonlyArray<Case>) => {
    for (const { run, title } of cases) {
      it.effect(`${name}: ${title}`, () => Effect.provide(Effect.scoped(run), onEtcd))
    }
  }
  suite("KeyValueStore", keyValueStore.cases)
  suite("Persistence", persistence.cases)
  suite("PersistedCache", persistedCache.cases(10))
  suite("RateLimiter", rateLimiter.cases(4))
})
