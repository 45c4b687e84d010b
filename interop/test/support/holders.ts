/**
 * Starts and kills the process of `holder.ts`.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import { fileURLToPath } from "node:url"

/** A Node process that holds a lock. */
export interface Holder {
  readonly token: bigint
  /** `kill -9`; returns when the process is gone. */
  readonly kill: Effect.Effect<void>
}

const program = fileURLToPath(new URL("./holder.ts", import.meta.url))

/** Starts the process and waits until it holds the lock; it is killed when the scope closes. */
export const start = Effect.fnUntraced(function*(
  endpoint: string,
  name: string,
  ttlMillis: number
): Effect.fn.Return<Holder, never, Scope.Scope> {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      ChildProcess.spawn(process.execPath, [program, endpoint, name, `${ttlMillis}`], {
        stdio: ["pipe", "pipe", "inherit"]
      })
    ),
    kill
  )
  const token = yield* Effect.callback<bigint>((resume) => {
    child.stdout.once("data", (chunk) => resume(Effect.succeed(BigInt(String(chunk).trim()))))
    child.once("close", (code, signal) => resume(Effect.die(new Error(`the holder ended: ${signal ?? code}`))))
  })
  return { token, kill: kill(child) }
})

const kill = (child: ChildProcess.ChildProcess): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("close", () => resume(Effect.void))
    child.kill("SIGKILL")
  })
