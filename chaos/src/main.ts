/**
 * The `npm run chaos` command: clients of a real cluster of three etcd servers, or of a real Postgres server, under
 * random faults, and a check of all they did.
 *
 * The last line is `violations: N`; the exit status is 1 unless N is 0. See `Options.ts`, or `--help`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Options from "./Options.ts"
import * as Report from "./Report.ts"
import * as RoundChecker from "./RoundChecker.ts"
import * as Run from "./Run.ts"
import * as SavedRound from "./SavedRound.ts"
import * as Soak from "./Soak.ts"

/** Everything has been printed. Failing ends the process even if a leak would keep it alive. */
class Failed extends Data.TaggedError("Failed") {}

const failIf = (isBad: boolean) => isBad ? Effect.fail(new Failed()) : Effect.void

const main = Effect.gen(function*() {
  const args = process.argv.slice(2)
  if (args.includes("--help")) return yield* Console.log(Options.usage)
  const options = Options.parse(args)
  if (typeof options === "string") {
    return yield* Effect.andThen(Console.error(`${options}\n\n${Options.usage}`), failIf(true))
  }
  if (options.check !== undefined) {
    const { violations } = RoundChecker.check(yield* SavedRound.load(options.check))
    yield* Console.log([...violations, `violations: ${violations.length}`].join("\n\n"))
    return yield* failIf(violations.length > 0)
  }
  if (options.soak) {
    const soak = yield* Soak.run(options, Console.log)
    yield* Console.log(Soak.format(soak))
    return yield* failIf(soak.violations.length > 0)
  }
  const summary = yield* Run.run(options, Console.log)
  yield* Console.log(Report.format(summary))
  yield* failIf(summary.findings.violations.length > 0)
}).pipe(
  Effect.scoped,
  // A run that failed proves nothing.
  Effect.catchCause((cause) =>
    Cause.hasInterruptsOnly(cause) ||
      cause.reasons.some((reason) => reason._tag === "Fail" && reason.error instanceof Failed)
      ? Effect.failCause(cause)
      : Effect.andThen(
        Console.log(`inconclusive: the run failed: ${Cause.pretty(cause)}\nviolations: 1`),
        failIf(true)
      )
  )
)

NodeRuntime.runMain(main, { disableErrorReporting: true })
