/**
 * The command line in the process of the test, without a terminal: much faster than a process of its own.
 */
import * as NodeChildProcessSpawner from "@effect/platform-node/NodeChildProcessSpawner"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import { TerminalCapabilities } from "effect/cli/TerminalCapabilities"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Sink from "effect/Sink"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as Terminal from "effect/Terminal"
import * as program from "../../src/program.ts"
import { make as makeSignals, Signals } from "../../src/signals.ts"

export interface Options {
  /** The environment: nothing of the test's own is visible. */
  readonly env?: Readonly<Record<string, string>>
  readonly stdin?: string | Uint8Array
}

export interface Result {
  readonly code: number
  /** Standard output as text. */
  readonly out: string
  readonly bytes: Uint8Array
  /** Standard error. */
  readonly err: string
}

/** What is written so far, for a command that is still running. */
export class Output {
  readonly #out: Array<Uint8Array> = []
  #err = ""
  onChange: () => void = () => {}

  readonly write = (chunk: string | Uint8Array): void => {
    this.#out.push(typeof chunk === "string" ? new TextEncoder().encode(chunk) : chunk)
    this.onChange()
  }

  readonly warn = (text: string): void => {
    this.#err += text
    this.onChange()
  }

  get bytes(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#out))
  }

  get out(): string {
    return new TextDecoder().decode(this.bytes)
  }

  get err(): string {
    return this.#err
  }
}

/** No terminal: nothing of it is used. */
const terminal = Terminal.make({
  columns: Effect.succeed(0),
  rows: Effect.succeed(0),
  size: Effect.die("no terminal"),
  readInput: Effect.die("no terminal"),
  readLine: Effect.die("no terminal"),
  display: () => Effect.die("no terminal")
})

const files = Layer.merge(NodeFileSystem.layer, NodePath.layer)
const platform = Layer.mergeAll(
  files,
  Layer.provide(NodeChildProcessSpawner.layer, files),
  Layer.succeed(Terminal.Terminal, terminal)
)

/** Runs the command line to its end. */
export const run = Effect.fnUntraced(function*(
  args: ReadonlyArray<string>,
  { env = {}, stdin = "" }: Options = {},
  output = new Output()
): Effect.fn.Return<Result> {
  const stdio = Stdio.make({
    args: Effect.succeed(args),
    stdin: Stream.make(typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin),
    stdout: () => Sink.forEach((chunk) => Effect.sync(() => output.write(chunk))),
    stderr: () => Sink.forEach((chunk) => Effect.sync(() => output.warn(String(chunk))))
  })
  const console: Console.Console = {
    ...globalThis.console,
    log: (...parts) => output.write(`${parts.join(" ")}\n`),
    error: (...parts) => output.warn(`${parts.join(" ")}\n`)
  }
  const code = yield* program.exitCode.pipe(
    Effect.provide(Layer.mergeAll(
      program.layer,
      platform,
      Layer.succeed(Stdio.Stdio, stdio),
      ConfigProvider.layer(ConfigProvider.fromUnknown(env))
    )),
    Effect.provideService(Console.Console, console),
    Effect.provideService(TerminalCapabilities, { canColor: false, canAnimate: false, canPrompt: false }),
    Effect.provideService(Signals, makeSignals().signals)
  )
  return { code, out: output.out, bytes: output.bytes, err: output.err }
})

/** The JSON on standard output. */
export const json = (result: Result): ReturnType<typeof JSON.parse> => {
  try {
    return JSON.parse(result.out)
  } catch {
    throw new Error(`not JSON: ${result.out}\n${result.err}`)
  }
}
