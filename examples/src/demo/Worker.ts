/**
 * One worker: registers itself, and increments the counter a few times, each time under the lock.
 */
import { DistLock, KeyRange, Kv, type KvError, type LockError, Op, TempKey } from "@effect-kv/core"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"

export const workers = "workers/"
export const counter = "counter"
export const log = "log/"
export const lockName = "counter-lock"

/** The time to live of a worker's temporary key and locks. */
export const ttl = Duration.seconds(2)

const rounds = 4

/** A worker's message. Times are wall clock milliseconds, because all workers are on one machine. */
export type Message =
  | { readonly _tag: "Holds"; readonly worker: string; readonly token: string; readonly at: number }
  | {
    readonly _tag: "Wrote"
    readonly worker: string
    readonly token: string
    readonly at: number
    readonly from: number
    readonly to: number
  }
  | { readonly _tag: "Failed"; readonly worker: string; readonly message: string; readonly at: number }
  | { readonly _tag: "Ended"; readonly worker: string; readonly at: number }

export type Tell = (message: Message) => Effect.Effect<void>

/** Registers the worker, waits until `colleagues` workers have registered, including itself, and then works. */
export const run = Effect.fnUntraced(function*(name: string, colleagues: number, tell: Tell) {
  yield* TempKey.make(`${workers}${name}`, { value: name, ttl })
  yield* Effect.scoped(untilPresent(colleagues))
  for (let round = 0; round < rounds; round++) {
    yield* DistLock.use(lockName, (lock) => increment(name, lock, tell), { ttl, description: name }).pipe(
      Effect.catch((error: KvError.KvError | LockError.LockError) =>
        Effect.flatMap(
          Clock.currentTimeMillis,
          (at) => tell({ _tag: "Failed", worker: name, message: error.message, at })
        )
      )
    )
    yield* Effect.sleep(yield* Random.nextIntBetween(5, 30))
  }
})

/** The registered workers, then every change, without a gap. */
const untilPresent = Effect.fnUntraced(function*(count: number) {
  const kv = yield* Kv.Kv
  const { entries, events } = yield* kv.snapshotAndWatch(KeyRange.prefix(workers))
  const present = new Set(entries.map((entry) => entry.key))
  if (present.size >= count) return
  yield* events.pipe(
    Stream.takeUntil((event) => {
      if (event._tag === "Put") present.add(event.key)
      else present.delete(event.key)
      return present.size >= count
    }),
    Stream.runDrain
  )
})

/** A read-modify-write with a pause in the middle: without the lock, or with two holders, increments would be lost. */
const increment = Effect.fnUntraced(function*(name: string, lock: DistLock.Lock, tell: Tell) {
  const token = `${lock.token}`
  yield* tell({ _tag: "Holds", worker: name, token, at: yield* Clock.currentTimeMillis })
  const kv = yield* Kv.Kv
  const from = Number(Option.getOrElse(yield* kv.get(counter), () => "0"))
  yield* Effect.sleep(yield* Random.nextIntBetween(20, 80))
  const to = from + 1
  yield* kv.txn({ then: [Op.put(counter, `${to}`), Op.put(`${log}${token.padStart(12, "0")}`, name)] })
  yield* tell({ _tag: "Wrote", worker: name, token, at: yield* Clock.currentTimeMillis, from, to })
})
