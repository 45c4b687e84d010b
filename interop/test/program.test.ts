/**
 * The Go process itself: it ends with whatever started it, and its calls can fail and be cancelled.
 */
import * as GoProgram from "@effect-kv/interop/GoProgram"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as ChildProcess from "node:child_process"
import { fileURLToPath } from "node:url"
import { go, ours, server, until, waiting } from "./support/clients.ts"

const program = fileURLToPath(new URL("./support/startsGo.ts", import.meta.url))

const runs = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

layer(server, { excludeTestServices: true, timeout: "2 minutes" })("the Go program", (it) => {
  it.effect(
    "ends when the process that started it is killed",
    () =>
      Effect.gen(function*() {
        const child = ChildProcess.spawn(process.execPath, [program], { stdio: ["ignore", "pipe", "inherit"] })
        const pid = yield* Effect.callback<number>((resume) => {
          child.stdout.once("data", (chunk) => resume(Effect.succeed(Number(chunk))))
          return Effect.sync(() => child.kill("SIGKILL"))
        })
        assert.isTrue(runs(pid))
        child.kill("SIGKILL")
        yield* until("the Go process has ended", Effect.sync(() => !runs(pid)))
      }),
    90_000
  )

  it.effect("an unknown call and a call to a process that has ended fail", () =>
    Effect.gen(function*() {
      const program = yield* GoProgram.start
      const unknown = yield* Effect.flip(program.call("fly", {}, Schema.Unknown))
      assert.include(unknown.message, `there is no call "fly"`)
      const done = yield* Effect.forkScoped(
        Effect.flip(program.call("sessionDone", { session: "none" }, Schema.Unknown))
      )
      assert.include((yield* Fiber.join(done)).message, `there is no session "none"`)
      yield* program.signal("SIGKILL")
      yield* program.gone
      assert.include((yield* Effect.flip(program.call("fly", {}, Schema.Unknown))).message, "has ended")
    }))

  it.effect("interrupting a call cancels its context: a waiting Mutex leaves the queue", () =>
    Effect.gen(function*() {
      const kv = yield* ours()
      const client = yield* go()
      const holder = yield* client.session({ ttl: 60 })
      const waiter = yield* client.session({ ttl: 60 })
      yield* holder.lock("cancelled")
      const fiber = yield* Effect.forkScoped(waiter.lock("cancelled"))
      yield* waiting(kv, "cancelled", 1)
      yield* Fiber.interrupt(fiber)
      yield* waiting(kv, "cancelled", 0)
    }))
})
