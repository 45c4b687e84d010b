/**
 * The demo as a process.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import { fileURLToPath } from "node:url"

const program = fileURLToPath(new URL("../../src/demo.ts", import.meta.url))

export interface Ended {
  readonly code: number | null
  readonly output: string
}

/** Runs the demo. It is killed when the test ends. */
export const demo = (args: ReadonlyArray<string>, url: string | undefined) =>
  Effect.callback<Ended>((resume) => {
    const { KV_URL: _, ...env } = process.env
    const child = ChildProcess.spawn(process.execPath, [program, ...args], {
      env: url === undefined ? env : { ...env, KV_URL: url }
    })
    let output = ""
    child.stdout.on("data", (chunk) => output += String(chunk))
    child.stderr.on("data", (chunk) => output += String(chunk))
    child.on("close", (code) => resume(Effect.succeed({ code, output })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

export const succeeded = ({ code, output }: Ended) => {
  assert.strictEqual(code, 0, output)
  assert.match(output, /KILLED while it holds the lock/)
  assert.match(output, /took over \d+ ms after the kill/)
  assert.match(output, /Nothing was lost, and no two workers held the lock at once/)
}
