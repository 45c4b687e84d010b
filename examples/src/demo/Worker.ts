/**
 * One worker: it registers itself and increments the counter a few times, each time under the lock.
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

/** The time to live of the lease of the worker's temporary key and locks. */
export const ttl = Duration.seconds(2)

const rounds = 4

/** Holds are counted from 1, as increments are. The holder during this one is killed. */
export const fatalHold = 5

/** Who waits to be killed. */
const victim = "victim"

/** The messages of a worker. Times are wall-clock milliseconds, because all workers run on one machine. */
export type Message =
  | {
    readonly _tag: "Holds"
    readonly worker: string
    readonly token: string
    readonly at: number
    /** Whether it waits to be killed. */
    readonly isVictim: boolean
  }
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

export type Send = (message: Message) => Effect.Effect<void>

/** Registers the worker, waits until there are `colleagues` workers including itself, and then works. */
export const run = Effect.fnUntraced(function*(name: string, colleagues: number, send: Send) {
  yield* TempKey.make(`${workers}${name}`, { value: name, ttl })
  yield* Effect.scoped(untilPresent(colleagues))
  for (let round = 0; round < rounds; round++) {
    yield* DistLock.use(lockName, (lock) => increment(name, lock, send), { ttl, description: name }).pipe(
      Effect.catch((error: KvError.KvError | LockError.LockError) =>
        Effect.flatMap(
          Clock.currentTimeMillis,
          (at) => send({ _tag: "Failed", worker: name, message: error.message, at })
        )
      )
    )
    yield* Effect.sleep(yield* Random.nextIntBetween(5, 30))
  }
})

/** The current workers, then all that start or stop, without a gap in between. */
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

/** A read-modify-write with a pause in the middle. Without the lock, or with two holders, increments would be lost. */
const increment = Effect.fnUntraced(function*(name: string, lock: DistLock.Lock, send: Send) {
  const token = `${lock.token}`
  const at = yield* Clock.currentTimeMillis
  const kv = yield* Kv.Kv
  const from = Number(Option.getOrElse(yield* kv.get(counter), () => "0"))
  const isVictim = from + 1 === fatalHold && (yield* kv.testAndSet(victim, Option.none(), name))
  yield* send({ _tag: "Holds", worker: name, token, at, isVictim })
  // The kill must not come too late, however long the message takes.
  if (isVictim) return yield* Effect.never
  yield* Effect.sleep(yield* Random.nextIntBetween(20, 80))
  const to = from + 1
  yield* kv.txn({ then: [Op.put(counter, `${to}`), Op.put(`${log}${token.padStart(12, "0")}`, name)] })
  yield* send({ _tag: "Wrote", worker: name, token, at: yield* Clock.currentTimeMillis, from, to })
})
