/**
 * A Node process that holds a lock until it is killed or its input ends: for tests that kill it.
 *
 *     node holder.ts ENDPOINT NAME TTL-MILLISECONDS
 *
 * It prints the lock's token when it holds the lock.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as Effect from "effect/Effect"

const [, , endpoint, name, ttl] = process.argv

const inputEnds = Effect.callback<void>((resume) => {
  process.stdin.on("end", () => resume(Effect.void))
  process.stdin.resume()
})

const hold = DistLock.use(
  name!,
  (lock) => Effect.andThen(Effect.sync(() => process.stdout.write(`${lock.token}\n`)), inputEnds),
  { ttl: Number(ttl) }
)

Effect.runPromise(Effect.provide(hold, EtcdLayer.layer({ endpoints: [endpoint!] }))).then(
  () => process.exit(0),
  (error) => {
    process.stderr.write(`${error}\n`)
    process.exit(1)
  }
)
