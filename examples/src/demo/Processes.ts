/**
 * Workers as operating system processes, which report in lines of JSON.
 */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { fileURLToPath } from "node:url"
import type { Fleet } from "./Fleet.ts"
import * as Store from "./Store.ts"
import * as Worker from "./Worker.ts"

const program = fileURLToPath(new URL("../demo.ts", import.meta.url))

export const make = Effect.fnUntraced(function*(names: ReadonlyArray<string>, namespace: string) {
  yield* Store.mustBeShared
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const messages = yield* Queue.unbounded<Worker.Message>()
  const scope = yield* Effect.scope
  const running = new Map<string, ChildProcessSpawner.ChildProcessHandle>()

  const start = Effect.fnUntraced(function*(name: string) {
    const options = ["--worker", name, "--namespace", namespace, "--processes", `${names.length}`]
    const command = ChildProcess.make(process.execPath, [program, ...options], { stderr: "inherit", extendEnv: true })
    const child = yield* Scope.provide(spawner.spawn(command), scope)
    running.set(name, child)
    yield* child.stdout.pipe(
      Stream.decodeText(),
      Stream.splitLines,
      Stream.runForEach((line) => Queue.offer(messages, JSON.parse(line) as Worker.Message)),
      Effect.exit,
      Effect.andThen(Clock.currentTimeMillis),
      Effect.flatMap((at) => Queue.offer(messages, { _tag: "Ended" as const, worker: name, at })),
      Effect.forkIn(scope)
    )
  })

  const fleet: Fleet = {
    names,
    kind: "processes",
    start: Effect.orDie(Effect.forEach(names, start, { discard: true })),
    kill: (name) =>
      Effect.suspend(() => {
        const child = running.get(name)
        return child === undefined ? Effect.void : Effect.orDie(child.kill({ killSignal: "SIGKILL" }))
      }),
    messages
  }
  return fleet
})

/** The program of a worker's process. */
export const runWorker = (name: string, colleagues: number, namespace: string) =>
  Worker.run(name, colleagues, (message) => Console.log(JSON.stringify(message))).pipe(
    Effect.scoped,
    Effect.provide(Store.layer(namespace))
  )
