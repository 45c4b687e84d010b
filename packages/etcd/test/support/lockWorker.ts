/**
 * A process that uses locks, temporary keys and recipes, for tests that pause and kill it. It reports its progress as lines of
 * JSON, and exits when its standard input ends.
 */
import * as Barrier from "@effect-kv/core/Barrier"
import * as Counter from "@effect-kv/core/Counter"
import * as DistLock from "@effect-kv/core/DistLock"
import * as DistRwLock from "@effect-kv/core/DistRwLock"
import * as DistSemaphore from "@effect-kv/core/DistSemaphore"
import * as Election from "@effect-kv/core/Election"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as Members from "@effect-kv/core/Members"
import * as Op from "@effect-kv/core/Op"
import * as RunOnce from "@effect-kv/core/RunOnce"
import * as Slot from "@effect-kv/core/Slot"
import * as TempKey from "@effect-kv/core/TempKey"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
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

/** Holds something of each recipe, and enters a barrier that does not open. */
const recipes = (prefix: string, ttl: number) =>
  Effect.gen(function*() {
    const options = { ttl } as const
    const leadership = yield* Election.campaign(`${prefix}election`, { ...options, value: "killed" })
    const semaphore = yield* DistSemaphore.make(`${prefix}semaphore`, { permits: 2 })
    yield* semaphore.acquire(2, options)
    yield* DistRwLock.acquireRead(`${prefix}rwlock`, options)
    yield* Slot.acquire(`${prefix}slot`, { ...options, size: 1 })
    yield* Members.join(`${prefix}members`, { ...options, id: "killed", value: "here", schema: Schema.String })
    const counter = yield* Counter.make(`${prefix}counter`)
    yield* counter.add(5)
    yield* Effect.forkScoped(Barrier.enter(`${prefix}barrier`, { ...options, parties: 3, id: "killed" }))
    yield* RunOnce.forKey(
      `${prefix}step`,
      () => Effect.andThen(report({ _tag: "Held", token: `${leadership.token}` }), Effect.never),
      options
    )
  })

const works: Record<Work, (name: string, ttl: number) => Effect.Effect<unknown, KvError.KvError, Kv.Kv>> = {
  hold,
  block,
  count,
  recipes: (prefix, ttl) => Effect.orDie(Effect.scoped(recipes(prefix, ttl))),
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
