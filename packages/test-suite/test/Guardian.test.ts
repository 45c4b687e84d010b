import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Guardian from "../src/verification/etcd/Guardian.ts"

describe("Guardian", () => {
  it.live("the guardian kills a process that has not yet written its id when the guardian lists processes", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const guardian = yield* Guardian.make("effect-kv-test").pipe(Scope.provide(scope))
      const child = yield* Effect.acquireRelease(
        Effect.sync(() => ChildProcess.spawn("sleep", ["60"], { stdio: "ignore" })),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      const ended = Effect.callback<NodeJS.Signals | null>((resume) => {
        child.once("exit", (_, signal) => resume(Effect.succeed(signal)))
      })
      const ending = yield* Effect.forkChild(ended, { startImmediately: true })
      // Created by opening it, and not written yet.
      const file = Fs.openSync(Path.join(guardian.directory, "pids", "late"), "w")
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* Effect.repeat(Effect.sync(() => Fs.existsSync(`${guardian.directory}.gone`)), {
        until: (moved) => moved,
        schedule: Schedule.spaced("1 milli")
      })
      // Long enough for the guardian to find the file empty; it must read it again.
      yield* Effect.sleep("50 millis")
      yield* Effect.sync(() => {
        Fs.writeSync(file, `${child.pid}\n`)
        Fs.closeSync(file)
      })
      assert.strictEqual(yield* Effect.timeout(Fiber.join(ending), "20 seconds"), "SIGKILL")
      yield* Fiber.join(closing)
      assert.isFalse(Fs.existsSync(`${guardian.directory}.gone`))
    }))
})
