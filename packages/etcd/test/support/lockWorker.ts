/**
 * A process that uses locks and temporary keys, for tests that pause and kill it. It reports its progress as lines of
 * JSON, and exits when its standard input ends.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as TempKey from "@effect-kv/core/TempKey"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type { Line, Work } from "./lockWorkers.ts"

const report = (line: Line): Effect.Effect<void> => Effect.sync(() => process.stdout.write(`${JSON.stringify(line)}\n`))

const ended = (error: DistLock.LockFailure): Effect.Effect<void> =>
  report({ _tag: "Ended", how: KvError.isKvError(error) ? error.reason._tag : error._tag })

/** Holds the lock until it is lost. */
const hold = (name: string, ttl: number) =>
  DistLock.use(name, (lock) =>
    Effect.ensuring(
      Effect.andThen(report({ _tag: "Held", token: `${lock.token}` }), Effect.never),
      report({ _tag: "Finalized" })
    ), { ttl }).pipe(Effect.catch(ended))

/** Blocks the event loop past the lease's TTL and then writes, as a holder that does not notice the pause would. */
const block = (name: string, ttl: number) =>
  DistLock.use(name, (lock) =>
    Effect.gen(function*() {
      const kv = yield* Kv.Kv
      yield* report({ _tag: "Held", token: `${lock.token}` })
      yield* Effect.sync(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ttl + 3000))
      yield* Effect.catch(
        kv.put(`${name}.stale`, "written"),
        (error) => Effect.andThen(report({ _tag: "Rejected", how: error.reason._tag }), Effect.never)
      )
    }), { ttl }).pipe(Effect.catch(ended))

/** Increments a counter under the lock repeatedly: reads, waits, and writes through the fence. */
const count = (name: string, ttl: number) =>
  DistLock.use(name, (lock) =>
    Effect.gen(function*() {
      const kv = yield* Kv.Kv
      const next = Number(Option.getOrElse(yield* kv.get(`${name}.counter`), () => "0")) + 1
      yield* Effect.sleep(yield* Random.nextIntBetween(0, 20))
      yield* kv.txn({
        then: [Op.put(`${name}.counter`, `${next}`), Op.put(`${name}.log/${lock.token}`, `${next}`)]
      })
    }), { ttl, description: `${process.pid}` }).pipe(
      Effect.catch(ended),
      Effect.andThen(Effect.sleep("2 millis")),
      Effect.forever
    )

const temporaryKey = (key: string, ttl: number) =>
  Effect.gen(function*() {
    const kv = yield* Kv.Kv
    yield* Effect.provideService(TempKey.make(key, { ttl }), Kv.Kv, kv)
    yield* report({ _tag: "Held", token: "0" })
    return yield* Effect.never
  })

const works: Record<Work, (name: string, ttl: number) => Effect.Effect<unknown, KvError.KvError, Kv.Kv>> = {
  hold,
  block,
  count,
  temporaryKey: (key, ttl) => Effect.orDie(Effect.scoped(temporaryKey(key, ttl)))
}

const [, , endpoint, work, name, ttl] = process.argv

const untilStdinEnds = Effect.callback<void>((resume) => {
  process.stdin.on("end", () => resume(Effect.void))
  process.stdin.resume()
})

const main = Effect.raceFirst(works[work as Work](name!, Number(ttl)), untilStdinEnds).pipe(
  Effect.provide(EtcdLayer.layer({ endpoints: [endpoint!] })),
  // The standard output is reserved for lines of JSON.
  Effect.provideService(Logger.LogToStderr, true),
  Effect.andThen(report({ _tag: "Stopped" }))
)

Effect.runPromise(main).then(() => process.exit(0), (error) => {
  process.stderr.write(`${error}\n`)
  process.exit(1)
})
