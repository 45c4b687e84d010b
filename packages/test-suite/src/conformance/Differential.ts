/**
 * Differential test of two stores: runs the same random programs on both and compares the result of every command.
 *
 * A program on which the stores differ is shrunk and printed. Any two stores that keep the contract can be compared:
 * two backends, or a backend with itself behind a function of backends.
 */
import * as Arbitrary from "effect/Arbitrary"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Interpreter from "./differential/Interpreter.ts"
import type { Outcome } from "./differential/Names.ts"
import * as Program from "./differential/Program.ts"

export type { Report, Side } from "./differential/Interpreter.ts"
export type { Outcome } from "./differential/Names.ts"
export type { Command, Program } from "./differential/Program.ts"

/**
 * The two stores differ. The message shows the shortest program found on which they do, and how.
 *
 * @since 0.1.0
 */
export class StoresDiffer extends Data.TaggedError("StoresDiffer")<{
  readonly message: string
  readonly program: Program.Program
}> {}

/**
 * The two stores, by their names.
 *
 * @since 0.1.0
 */
export type Sides = Readonly<Record<string, Interpreter.Side>>

/**
 * How much is tried.
 *
 * @since 0.1.0
 */
export interface Options {
  /** The number of programs. Default: 100. */
  readonly runs?: number | undefined
  /** The most commands of a program; on average they have half as many. Default: 100. */
  readonly size?: number | undefined
  /** The seed of the programs. Default: random, and printed with a failure. */
  readonly seed?: string | number | undefined
  /** The token that a failure printed: runs that program again. */
  readonly replay?: Arbitrary.Replay | undefined
}

/**
 * Compares two stores with random programs. Fails with `StoresDiffer`.
 *
 * **Gotchas**
 *
 * Everything in the two stores is deleted, and no other client may write to them meanwhile.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Differential } from "@effect-kv/test-suite/conformance"
 * import { Effect } from "effect"
 *
 * const memory = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const kv = yield* Effect.flatMap(store.connect, Kv.make)
 *   return { kv, compact: store.compact }
 * })
 *
 * const program = Effect.gen(function*() {
 *   yield* Differential.check({ left: yield* memory, right: yield* memory }, { runs: 5 }) // => undefined
 * })
 * ```
 *
 * @since 0.1.0
 */
export const check = Effect.fnUntraced(function*(
  sides: Sides,
  options: Options = {}
): Effect.fn.Return<void, StoresDiffer> {
  const result = yield* Arbitrary.checkEffect(Program.program, (program) => sandboxed(compare(sides, program)), {
    runs: options.runs ?? 100,
    size: options.size ?? 100,
    maxShrinks: 500,
    seed: options.seed,
    replay: options.replay
  })
  if (result._tag === "Passed") return
  if (result._tag !== "Falsified") return yield* Effect.die(new Error(Arbitrary.formatCheckFailure(result)))
  const how = result.failure._tag === "PropertyError" ? result.failure.error : "the outcomes differ"
  return yield* new StoresDiffer({
    program: result.shrunkInput,
    message: `${Object.keys(sides).join(" and ")} differ after ${result.runs} programs, shrunk ` +
      `${result.shrinks} times:\n\n${Program.print(result.shrunkInput)}\n\n${how}\n\nreplay: ${result.replay}`
  })
})

/**
 * Runs one program on both stores, and fails with a description of the first difference.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Differential } from "@effect-kv/test-suite/conformance"
 * import { Effect } from "effect"
 *
 * const memory = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const kv = yield* Effect.flatMap(store.connect, Kv.make)
 *   return { kv, compact: store.compact }
 * })
 *
 * const program = Effect.gen(function*() {
 *   const sides = { left: yield* memory, right: yield* memory }
 *   yield* Differential.compare(sides, [{ do: "put", key: "a", value: "1" }]) // => undefined
 * })
 * ```
 *
 * @since 0.1.0
 */
export const compare = Effect.fnUntraced(function*(
  sides: Sides,
  program: Program.Program
): Effect.fn.Return<void, unknown> {
  const [[aName, a], [bName, b]] = Object.entries(sides) as [[string, Interpreter.Side], [string, Interpreter.Side]]
  const [left, right] = yield* Effect.all([
    Effect.scoped(Interpreter.runProgram(a, program)),
    Effect.scoped(Interpreter.runProgram(b, program))
  ], { concurrency: 2 })
  const show = (what: string, x: Outcome | undefined, y: Outcome | undefined) =>
    `${what}:\n  ${aName}: ${JSON.stringify(x)}\n  ${bName}: ${JSON.stringify(y)}`
  const difference = firstDifference("command", left.outcomes, right.outcomes, show) ??
    firstDifference("watched revision", left.watched, right.watched, show) ??
    firstDifference("the end", [left.end], [right.end], show)
  if (difference !== undefined) return yield* Effect.fail(difference)
})

const firstDifference = (
  what: string,
  left: ReadonlyArray<Outcome>,
  right: ReadonlyArray<Outcome>,
  show: (what: string, x: Outcome | undefined, y: Outcome | undefined) => string
): string | undefined => {
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    if (JSON.stringify(left[i]) !== JSON.stringify(right[i])) return show(`${what} ${i + 1}`, left[i], right[i])
  }
  return undefined
}

/** Turns defects into failures, so that a program that breaks a store is shrunk like one whose outcomes differ. */
const sandboxed = <A>(effect: Effect.Effect<A, unknown>): Effect.Effect<true, string> =>
  effect.pipe(
    Effect.as(true as const),
    Effect.catchCause((cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.failCause(cause as Cause.Cause<never>)
        : Effect.fail(describe(cause))
    )
  )

const describe = (cause: Cause.Cause<unknown>): string => {
  const squashed = Cause.squash(cause)
  return typeof squashed === "string" ? squashed : Cause.pretty(cause)
}
