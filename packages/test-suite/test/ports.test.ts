import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import * as Path from "node:path"
import { freePort, releasePort } from "../src/verification/internal/ports.ts"

const inAnotherProcess = (port: number) =>
  Effect.callback<string>((resume) => {
    const file = Path.join(import.meta.dirname, "fixtures/claimPort.ts")
    ChildProcess.execFile(process.execPath, [file, String(port)], (error, stdout) =>
      resume(error === null ? Effect.succeed(stdout.trim()) : Effect.die(error)))
  })

describe("ports", () => {
  it.live("a port is not handed out twice, and not used for outgoing connections", () =>
    Effect.gen(function*() {
      const ports = yield* Effect.all(Array.from({ length: 50 }, () => freePort), { concurrency: "unbounded" })
      assert.strictEqual(new Set(ports).size, 50)
      for (const port of ports) assert.isBelow(port, 32_768)
      yield* Effect.forEach(ports, releasePort)
    }))

  it.live.skipIf(process.platform !== "linux")(
    "another process does not choose it while it is kept",
    () =>
      Effect.gen(function*() {
        const port = yield* freePort
        assert.notStrictEqual(yield* inAnotherProcess(port), String(port))
        yield* releasePort(port)
        assert.strictEqual(yield* inAnotherProcess(port), String(port))
      })
  )
})
