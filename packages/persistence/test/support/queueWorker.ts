/**
 * A process that takes one item of the queue "jobs", reports it on its standard output, and never ends: for a test that
 * kills it.
 */
import * as KvUrl from "@effect-kv/core/KvUrl"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as PersistedQueue from "effect/persistence/PersistedQueue"
import * as Schema from "effect/Schema"
import * as KvPersistedQueue from "../../src/KvPersistedQueue.ts"

const [, , url, prefix, ttl] = process.argv

const main = Effect.gen(function*() {
  const queue = yield* PersistedQueue.make({ name: "jobs", schema: Schema.String })
  yield* queue.take((text) => Effect.andThen(Effect.sync(() => process.stdout.write(`taken ${text}\n`)), Effect.never))
}).pipe(
  Effect.provide(
    KvPersistedQueue.layer({ prefix: prefix!, ttl: Number(ttl) }).pipe(
      Layer.provide(KvUrl.layer(url!, { http: EtcdLayer.fromUrl, postgres: PostgresLayer.fromUrl }))
    )
  ),
  Effect.provideService(Logger.LogToStderr, true)
)

Effect.runPromise(main).then(() => process.exit(0), (error) => {
  process.stderr.write(`${error}\n`)
  process.exit(1)
})
