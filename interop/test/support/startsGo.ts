/**
 * A Node process that starts the Go program and prints its process id: for a test that kills it.
 */
import * as GoProgram from "@effect-kv/interop/GoProgram"
import * as Effect from "effect/Effect"

const main = Effect.flatMap(
  GoProgram.start,
  ({ pid }) => Effect.andThen(Effect.sync(() => process.stdout.write(`${pid}\n`)), Effect.never)
)

Effect.runPromise(Effect.scoped(main)).catch((error) => {
  process.stderr.write(`${error}\n`)
  process.exit(1)
})
