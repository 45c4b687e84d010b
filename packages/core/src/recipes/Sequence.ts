/**
 * Sequences: unique, growing numbers for the clients of a store.
 *
 * `next` costs one request and has gaps: its numbers are revisions of the store. `dense` counts 1, 2, 3 and reserves
 * blocks of numbers, so most calls cost no request.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Semaphore from "effect/Semaphore"
import * as internals from "../internal/kv/internals.ts"
import * as modifies from "../internal/kv/modify.ts"
import * as integers from "../internal/values/integers.ts"
import { Kv } from "../service/Kv.ts"
import * as KeyRange from "../values/KeyRange.ts"
import * as KvError from "../values/KvError.ts"

/**
 * A number that is larger than every number of the sequence whose call had returned before this call began.
 *
 * **Details**
 *
 * It is the revision of a put to `NAME/sequence/last`. Writes to other keys leave gaps, and so does a response that was lost: the
 * put is then repeated, at most three times, which wastes a number and returns none twice.
 *
 * **Gotchas**
 *
 * A store that is restored from a backup can go back to earlier revisions, unless it is restored with
 * `--bump-revision`.
 *
 * @example
 * ```ts
 * import { Sequence } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const first = yield* Sequence.next("orders")
 *   const second = yield* Sequence.next("orders")
 *   second > first // => true
 * })
 * ```
 *
 * @since 0.1.0
 */
export const next = Effect.fnUntraced(function*(name: string): Effect.fn.Return<bigint, KvError.KvError, Kv> {
  const kv = yield* Kv
  yield* checked(name)
  const { revision } = yield* Effect.retry(kv.put(`${name}/sequence/last`, ""), again)
  return revision
})

/**
 * Options of {@link dense}.
 *
 * @since 0.1.0
 */
export interface DenseOptions {
  /** How many numbers are reserved at a time: a positive integer. Default: 1. */
  readonly block?: number | undefined
}

/**
 * A dense sequence, with the numbers that this user of it has reserved.
 *
 * @since 0.1.0
 */
export interface Dense {
  readonly name: string
  /** The next number. Costs a request if no reserved number is left. */
  readonly next: Effect.Effect<bigint, KvError.KvError>
}

/**
 * Numbers from 1 on, each given out once among all clients.
 *
 * **Details**
 *
 * The last reserved number is the value of `NAME/sequence/next`. A block is reserved by compare-and-set. Numbers are lost, never
 * given out twice, if a client ends before it has used its block, or if the response to a reservation is lost.
 *
 * **Gotchas**
 *
 * With blocks, the numbers of different clients do not grow in the order of the calls. With `block: 1` they do.
 *
 * @example
 * ```ts
 * import { Sequence } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const here = yield* Sequence.dense("invoices", { block: 10 })
 *   const there = yield* Sequence.dense("invoices", { block: 10 })
 *   const numbers = [yield* here.next, yield* there.next, yield* here.next] // => [1n, 11n, 2n]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const dense = Effect.fnUntraced(function*(
  name: string,
  options?: DenseOptions
): Effect.fn.Return<Dense, KvError.KvError, Kv> {
  const { backend, origin } = internals.of(yield* Kv)
  const modify = modifies.make(backend, origin)
  const block = options?.block ?? 1
  yield* checked(name)
  if (!(Number.isSafeInteger(block) && block > 0)) {
    return yield* invalid(`block must be a positive integer, not ${block}`)
  }
  const key = `${name}/sequence/next`

  /** The last number of a new block. */
  const reserve = Effect.retry(
    modify(key, ({ text }) =>
      Effect.flatMap(text, (current) => {
        const last = integers.parse(Option.getOrElse(current, () => "0"))
        if (last === undefined || last < 0n) return invalid(notNumber(key))
        const result = last + BigInt(block)
        return Effect.succeed({ text: Option.some(`${result}`), result })
      })),
    again
  )

  const turn = Semaphore.makeUnsafe(1)
  let given = 0n
  let last = 0n
  const take = Effect.gen(function*() {
    if (given === last) {
      last = yield* reserve
      given = last - BigInt(block)
    }
    return ++given
  })
  return { name, next: Semaphore.withPermit(turn, take) }
})

/** A write whose outcome is unknown wastes numbers at worst, so it can be repeated. */
const again = { while: ({ reason }: KvError.KvError) => reason._tag === "Indeterminate", times: 3 }

const checked = (name: string): Effect.Effect<void, KvError.KvError> => {
  const problem = KeyRange.invalidKey(name)
  return problem === undefined ? Effect.void : invalid(`the name of a sequence is part of its key: ${problem}`)
}

const notNumber = (key: string): string =>
  `${JSON.stringify(key)} does not hold the last number of a sequence; another program has written it. Give the ` +
  `sequence another name, or repair the key`

const invalid = (message: string) => KvError.fail(new KvError.InvalidRequest({ message }))
