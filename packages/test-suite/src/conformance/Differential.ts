/**
 * Two stores that should be the same: runs the same random programs on both and compares what comes of every command.
 *
 * A program that tells them apart is shrunk and printed. Anything that keeps the contract can be compared with anything
 * else: a backend with another, or with itself seen through a function of backends.
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

/** The two stores are different; the message shows a program that tells them apart, and how. */
export class StoresDiffer extends Data.TaggedError("StoresDiffer")<{
  readonly message: string
  readonly program: Program.Program
}> {}

/** The two stores, by their names. */
export type Sides = Readonly<Record<string, Interpreter.Side>>

/** How much is tried. */
export interface Options {
  /** The number of programs. Default: 100. */
  readonly runs?: number | undefined
  /** The most commands of a program; on average they have half as many. Default: 100. */
  readonly size?: number | undefined
  /** Chosen at random by default, and printed with a failure. */
  readonly seed?: string | number | undefined
  /** What a failure printed under this name: runs that program again. */
  readonly replay?: Arbitrary.Replay | undefined
}

/** Compares two stores; fails with `StoresDiffer`, or with what broke while a program ran. */
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
  const how = result.failure._tag === "PropertyError" ? result.failure.error : "they differ"
  return yield* new StoresDiffer({
    program: result.shrunkInput,
    message: `${Object.keys(sides).join(" and ")} differ after ${result.runs} programs, here shrunk ` +
      `${result.shrinks} times:\n\n${Program.print(result.shrunkInput)}\n\n${how}\n\nreplay: ${result.replay}`
  })
})

/** Runs one program on both stores; fails with the first difference, in words. */
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

/** A program that breaks something is shrunk like one that tells the stores apart. */
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
