/**
 * A Go process on etcd's own Go client: it is started, called, and killed with its scope.
 *
 * The protocol is described in `go/main.go`. `GoClient.ts` has the calls.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Readline from "node:readline"

/** A call failed in Go, or the process ended before it responded. The message is Go's. */
export class GoError extends Data.TaggedError("GoError")<{ readonly call: string; readonly message: string }> {}

/** A running Go process. */
export interface GoProgram {
  readonly pid: number
  /**
   * Calls Go and waits for the result. Interrupting it cancels the call's `context.Context` and waits until the call has
   * returned.
   */
  readonly call: <A>(
    name: string,
    args: unknown,
    result: Schema.Decoder<A>,
    onItem?: (item: unknown) => void
  ) => Effect.Effect<A, GoError>
  readonly signal: (signal: "SIGSTOP" | "SIGCONT" | "SIGKILL") => Effect.Effect<void>
  /** Waits until the process is gone. */
  readonly gone: Effect.Effect<void>
}

/** The program's file, `undefined` if it was not built. */
export const file = (): string | undefined => {
  const file = process.env["EFFECT_KV_GO_PROGRAM"]
  return file === "" ? undefined : file
}

/** Starts the process, which is killed when the scope closes. It also ends when this process does, with its input. */
export const start: Effect.Effect<GoProgram, GoError, Scope.Scope> = Effect.acquireRelease(
  Effect.suspend(() => {
    const program = file()
    return program === undefined
      ? Effect.fail(
        new GoError({
          call: "start",
          message: "EFFECT_KV_GO_PROGRAM is not set: `npm test` builds the program with Go"
        })
      )
      : Effect.sync(() => spawn(program))
  }),
  (program) => Effect.andThen(program.signal("SIGKILL"), program.gone)
)

/** The JSON of a line: bigints are decimal strings. */
const encode = (line: object): string =>
  JSON.stringify(line, (_, field: unknown) => typeof field === "bigint" ? `${field}` : field)

interface Response {
  readonly id: number
  readonly item?: unknown
  readonly result?: unknown
  readonly error?: string
}

interface Pending {
  readonly onItem: (item: unknown) => void
  readonly onEnd: (response: { readonly result?: unknown; readonly error?: string | undefined }) => void
}

const spawn = (program: string): GoProgram => {
  const child = ChildProcess.spawn(program, [], {
    stdio: ["pipe", "pipe", "inherit"],
    // A stray proxy or `ETCD_...` variable must not change what a test means.
    env: process.env["EFFECT_KV_RUN"] === undefined ? {} : { EFFECT_KV_RUN: process.env["EFFECT_KV_RUN"] }
  })
  const pending = new Map<number, Pending>()
  let calls = 0
  const write = (line: object): void => void child.stdin.write(`${encode(line)}\n`)
  // Writing to a process that was killed; the calls fail when the process ends.
  child.stdin.on("error", () => {})
  Readline.createInterface({ input: child.stdout }).on("line", (line) => {
    const response = JSON.parse(line) as Response
    const call = pending.get(response.id)
    if (response.item !== undefined) return call?.onItem(response.item)
    pending.delete(response.id)
    call?.onEnd(response)
  })
  let isGone = false
  const waiting = new Set<() => void>()
  const ended = (): void => {
    isGone = true
    for (const { onEnd } of pending.values()) onEnd({ error: "the Go process has ended" })
    pending.clear()
    waiting.forEach((resume) => resume())
  }
  child.on("close", ended)
  child.on("error", ended)

  const call = <A>(
    name: string,
    args: unknown,
    result: Schema.Decoder<A>,
    onItem: (item: unknown) => void = () => {}
  ): Effect.Effect<A, GoError> =>
    Effect.callback<unknown, GoError>((resume) => {
      const id = ++calls
      const cancelled = new Set<() => void>()
      const onEnd: Pending["onEnd"] = ({ error, result }) => {
        resume(error === undefined ? Effect.succeed(result) : Effect.fail(new GoError({ call: name, message: error })))
        cancelled.forEach((resume) => resume())
      }
      if (isGone) return onEnd({ error: "the Go process has ended" })
      pending.set(id, { onItem, onEnd })
      write({ id, call: name, args })
      return Effect.callback<void>((resume) => {
        if (!pending.has(id)) return resume(Effect.void)
        cancelled.add(() => resume(Effect.void))
        write({ id, call: "cancel" })
      })
    }).pipe(
      Effect.flatMap(Schema.decodeUnknownEffect(result)),
      Effect.catchTag("SchemaError", (error) => Effect.die(error))
    )

  return {
    pid: child.pid!,
    call,
    signal: (signal) => Effect.sync(() => void child.kill(signal)),
    gone: Effect.callback((resume) => {
      if (isGone) return resume(Effect.void)
      const done = (): void => resume(Effect.void)
      waiting.add(done)
      return Effect.sync(() => waiting.delete(done))
    })
  }
}
