/**
 * Counters: a sum to which many clients add, exactly, and without conflicts between them.
 *
 * Each participant writes a key of its own with its absolute total. The sum is that of all totals, read at one revision.
 * An addition whose response was lost is repeated without counting twice.
 *
 * A participant is named by a random id. When its scope closes, or when another one finds that it has crashed, its total
 * is moved into the sum of those that have ended. One that was only paused starts again from zero; what it had added
 * stays in the sum.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as participants from "../internal/counter/participant.ts"
import * as totals from "../internal/counter/totals.ts"
import * as internals from "../internal/kv/internals.ts"
import * as leaseId from "../internal/values/leaseId.ts"
import { Kv } from "../service/Kv.ts"
import * as KeyRange from "../values/KeyRange.ts"
import * as KvError from "../values/KvError.ts"
import * as TempKey from "./TempKey.ts"

/**
 * A participant of a counter.
 *
 * @since 0.1.0
 */
export interface Counter {
  readonly name: string
  /**
   * Adds an integer, which may be negative. Additions of one participant are made one at a time.
   *
   * **Details**
   *
   * If a response is lost, the addition is repeated until the `Deadline` (default: 5 seconds), and counts once. It fails
   * with `Indeterminate` only if the store could not be reached again, or if others took the participant for dead
   * meanwhile.
   */
  readonly add: (amount: bigint | number) => Effect.Effect<void, KvError.KvError>
  /** The sum of all participants, at one revision. */
  readonly get: Effect.Effect<bigint, KvError.KvError>
}

/**
 * Takes part in a counter until the scope closes. The keys of the counter are under `NAME/counter/`.
 *
 * @example
 * ```ts
 * import { Counter } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const imports = yield* Counter.make("imports")
 *   yield* imports.add(3)
 *   yield* imports.add(-1)
 *   yield* imports.get // => 2n
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  name: string
): Effect.fn.Return<Counter, KvError.KvError, Kv | Scope.Scope> {
  const kv = yield* Kv
  const { backend, unfenced } = internals.of(kv)
  const names = yield* checked(name)
  const id = (yield* leaseId.random).toString(16)
  // Ended in the reverse order: the total is folded before the participant is considered dead.
  yield* Effect.catchTag(TempKey.make(names.lives + id), "TempKeyTaken", Effect.die)
  const participant = yield* Effect.acquireRelease(
    Effect.sync(() => participants.make(backend, unfenced, names, id)),
    ({ end }) => end
  )
  // If it fails, the next participant does it.
  yield* Effect.ignore(totals.foldDead(unfenced, names))
  return {
    name,
    add: (amount) => Effect.flatMap(integerOf(amount), participant.add),
    get: totals.sum(backend, names)
  }
})

/**
 * The sum of a counter, at one revision; `0n` if nothing was ever added.
 *
 * @example
 * ```ts
 * import { Counter } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Effect.scoped(Effect.flatMap(Counter.make("imports"), ({ add }) => add(3)))
 *   yield* Counter.get("imports") // => 3n
 * })
 * ```
 *
 * @since 0.1.0
 */
export const get = Effect.fnUntraced(function*(name: string): Effect.fn.Return<bigint, KvError.KvError, Kv> {
  const { backend } = internals.of(yield* Kv)
  return yield* totals.sum(backend, yield* checked(name))
})

const checked = (name: string): Effect.Effect<totals.Names, KvError.KvError> => {
  const problem = KeyRange.invalidKey(name)
  return problem === undefined
    ? Effect.succeed(totals.namesOf(name))
    : KvError.fail(new KvError.InvalidRequest({ message: `the name of a counter is part of its keys: ${problem}` }))
}

const integerOf = (amount: bigint | number): Effect.Effect<bigint, KvError.KvError> =>
  typeof amount === "bigint" || Number.isSafeInteger(amount)
    ? Effect.succeed(BigInt(amount))
    : KvError.fail(
      new KvError.InvalidRequest({
        message: `a counter adds integers, not ${amount}; give a bigint, or a number that is a safe integer`
      })
    )
