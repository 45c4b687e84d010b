/**
 * A counter that is incremented under a lock, as a fenced effect.
 */
import type * as DistLock from "@effect-kv/core/DistLock"
import type * as Election from "@effect-kv/core/Election"
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import type * as Op from "@effect-kv/core/Op"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Recorder from "../history/Recorder.ts"

/**
 * The key of the counter without the prefix: the resource whose increments are recorded as fenced effects.
 *
 * @since 0.1.0
 */
export const counter = "counter"

/** The default prefix of all keys. */
export const defaultPrefix = "w/"

/**
 * The name, without the prefix, of the lock that fences the counter.
 *
 * @since 0.1.0
 */
export const lock = "lock"

/**
 * Options of an increment.
 *
 * @since 0.1.0
 */
export interface IncrementOptions extends DistLock.Options {
  /** All keys begin with this. Default: `w/`. */
  readonly prefix?: string | undefined
  /** Runs after the counter was read and before it is written. Default: nothing. */
  readonly meanwhile?: Effect.Effect<void> | undefined
  /**
   * Whether the write goes through a service that captured its `Kv` before the lock was acquired, and not through the
   * `Kv` of the environment. Default: false.
   */
  readonly captured?: boolean | undefined
  /**
   * Whether the lock is acquired as an election of its name, whose leader proclaims before and after it writes. Locks and
   * elections of one name exclude each other. Default: false.
   */
  readonly elected?: boolean | undefined
}

/** A service that increments the counter through the `Kv` that it captured when its layer was built. */
class CounterService extends Context.Service<CounterService, {
  readonly addOne: (held: DistLock.Lock) => Effect.Effect<Op.PutResponse, KvError>
}>()("@effect-kv/test-suite/Workload/CounterService") {
  static readonly layer = (options: IncrementOptions | undefined) =>
    Layer.effect(CounterService)(
      Effect.map(Kv.Kv, (kv) => ({ addOne: (held) => addOne(kv, held, options, ` ${captured}`) }))
    )
}

/**
 * The suffix of values that are written through a captured `Kv`.
 *
 * @since 0.1.0
 */
export const captured = "captured"

/**
 * A word in values that are written by the leader of an election.
 *
 * @since 0.1.0
 */
export const elected = "elected"

/** The first word of proclaimed values. The token and the number of the proclamation follow. */
export const proclamation = "proclamation"

/** After how long a leader gives up waiting for a proclamation that it will replace. */
const patience = "10 millis"

/**
 * Proclaims before and after the effect. The first and the last proclamation are interrupted early, so that they may still
 * be in flight when another one is made, and when the leader resigns.
 */
const proclaiming =
  ({ proclaim, token }: Election.Leadership) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | KvError, R> => {
    const nth = (n: number) => proclaim(`${proclamation} ${token} ${n}`)
    return Effect.timeoutOption(nth(1), patience).pipe(
      Effect.andThen(effect),
      Effect.tap(nth(2)),
      Effect.tap(Effect.timeoutOption(nth(3), patience))
    )
  }

const resourceOf = (options: IncrementOptions | undefined): string => `${options?.prefix ?? defaultPrefix}${counter}`

const addOne = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  held: DistLock.Lock,
  options: IncrementOptions | undefined,
  ending: string
) {
  const resource = resourceOf(options)
  const count = Option.getOrElse(yield* kv.get(resource), () => "0")
  if (options?.meanwhile !== undefined) yield* options.meanwhile
  const as = options?.elected === true ? ` ${elected}` : ""
  return yield* kv.put(resource, `${Number(count.split(" ")[0]) + 1} by ${held.token}${as}${ending}`)
})

/**
 * Increments the counter under the lock. The write is rejected if the lock was lost since the read.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Recorder, Workload } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const recorder = yield* Recorder.make
 *   const kv = yield* Effect.flatMap(store.connect, Kv.make)
 *   yield* Workload.increment(recorder, "a", kv)
 *   const { effects } = yield* recorder.history
 *   const outcomes = effects.map((effect) => effect.outcome) // => ["Accepted"]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const increment = (recorder: Recorder.Recorder, client: string, kv: Kv.Kv, options?: IncrementOptions) => {
  const name = `${options?.prefix ?? defaultPrefix}${lock}`
  const locked = <R>(add: (held: DistLock.Lock) => Effect.Effect<Op.PutResponse, KvError, R>) => {
    const fenced = (held: DistLock.Lock) => recorder.fenced(client, held, resourceOf(options))(add(held))
    return options?.elected === true
      ? recorder.withLeadership(
        client,
        name,
        (leadership) => proclaiming(leadership)(fenced(leadership.lock)),
        options
      )
      : recorder.withLock(client, name, fenced, options)
  }
  const incremented = options?.captured === true
    ? Effect.provide(
      locked((held) => Effect.flatMap(CounterService, (counter) => counter.addOne(held))),
      CounterService.layer(options)
    )
    : locked((held) => Effect.flatMap(Kv.Kv, (kv) => addOne(kv, held, options, "")))
  return Effect.provideService(incremented, Kv.Kv, kv)
}
