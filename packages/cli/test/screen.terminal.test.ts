/**
 * The live screen in a real terminal, during an incident.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { execFileSync } from "node:child_process"
import * as program from "./support/program.ts"

const server = Layer.merge(EtcdCluster.layer(), program.layer)

/** What the key End sends. */
const end = "\x1b[F"

const leave = "\x1b[?7h\x1b[?25h\x1b[?1049l"

/** What the last whole drawing shows. */
const linesOf = (output: string): ReadonlyArray<string> => {
  const drawings = output.split("\x1b[H").slice(1).filter((drawing) => drawing.includes("\x1b[J"))
  // oxlint-disable-next-line no-control-regex -- escape sequences
  return (drawings.at(-1) ?? "").replace(/\x1b\[J[^]*$/, "").replace(/\x1b\[[?\d;]*[a-zA-Z]/g, "").split(/\r+\n/)
}

/** A terminal with the live screen. */
const open = Effect.fnUntraced(function*(args: string) {
  const file = yield* program.Program
  const { endpoints } = yield* EtcdCluster.EtcdCluster
  const terminal = yield* program.inTerminal(
    `sh -c 'echo before; tty; "${process.execPath}" "${file}" ${args}; echo "code $?"; exec cat'`,
    { KV_URL: endpoints[0]! }
  )
  const [, device] = yield* terminal.until(/(\/dev\/\S+)/)
  const until = (what: string, holds: (lines: ReadonlyArray<string>) => boolean) =>
    Effect.sync(() => linesOf(terminal.output())).pipe(
      Effect.repeat({ until: holds, schedule: Schedule.spaced("20 millis") }),
      Effect.timeoutOrElse({
        duration: "20 seconds",
        orElse: () => Effect.die(new Error(`${what} is not shown:\n${linesOf(terminal.output()).join("\n")}`))
      })
    )
  const resize = (columns: number, rows: number) =>
    Effect.sync(() => execFileSync("stty", ["-F", device!, "cols", `${columns}`, "rows", `${rows}`]))
  return { ...terminal, until, resize, printed: terminal.until }
})

const has = (pattern: RegExp) => (lines: ReadonlyArray<string>) => lines.some((line) => pattern.test(line))

/** A client of its own that acquires the lock, and holds it until it is released. */
const client = Effect.fnUntraced(function*(name: string, description: string) {
  const { endpoints } = yield* EtcdCluster.EtcdCluster
  const scope = yield* Scope.fork(yield* Effect.scope)
  const context = yield* Layer.build(EtcdLayer.layer({ endpoints })).pipe(Scope.provide(scope))
  const acquire = DistLock.acquire(name, { description, ttl: "60 seconds" }).pipe(
    Effect.provide(context),
    Scope.provide(scope)
  )
  return { acquire, release: Scope.close(scope, Exit.void) }
})

layer(server, { excludeTestServices: true, timeout: "60 seconds" })("the live screen", (it) => {
  it.effect("It shows a take-over, follows the terminal's size, says that data is stale, and restores the terminal", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      const screen = yield* open("locks live/ --watch")
      yield* screen.until("the empty screen", has(/^no locks$/))

      // a take-over
      const [first, second] = [yield* client("live/nightly", "worker a"), yield* client("live/nightly", "worker b")]
      yield* first.acquire
      yield* screen.until("the holder", has(/^live\/nightly +lock +holds +\d+s +.+ of 1m 0s +\d+ +worker a$/))
      yield* Effect.forkScoped(second.acquire)
      yield* screen.until("the waiter", has(/^ +waits 1 +\d+s +.+ of 1m 0s +\d+ +worker b$/))
      yield* first.release
      const lines = yield* screen.until("the take-over", has(/^live\/nightly +lock +holds .* worker b$/))
      assert.isFalse(has(/worker a/)(lines))

      // a narrow terminal, then a tiny one, then a large one
      const fits = (columns: number, rows: number) => (lines: ReadonlyArray<string>) =>
        lines.length === rows && lines.every((line) => line.length <= columns)
      yield* screen.resize(50, 8)
      const narrow = yield* screen.until("50 columns", fits(50, 8))
      assert.isTrue(has(/^live\/nightly +holds +.*worker b$/)(narrow), narrow.join("\n"))
      yield* screen.resize(20, 3)
      yield* screen.until("20 columns", fits(20, 3))
      yield* screen.resize(120, 30)
      yield* screen.until("120 columns", (lines) => lines.length === 30 && has(/worker b$/)(lines))

      // an outage
      yield* cluster.member.kill
      const stale = yield* screen.until(
        "the outage",
        has(/^STALE for \d+s: cut off from the store since \d\d:\d\d:\d\dZ/)
      )
      assert.isTrue(has(/worker b$/)(stale))
      yield* cluster.member.start
      yield* screen.until("the return", (lines) => !has(/STALE/)(lines) && has(/worker b$/)(lines))
      yield* second.release
      yield* screen.until("the release after the outage", has(/^no locks$/))

      // the end
      yield* screen.type(program.ctrlC)
      yield* screen.printed(/code 0/)
      const output = screen.output()
      assert.include(output.slice(output.lastIndexOf("\x1b[J")), leave)
      // The terminal echoes again, so it is not in raw mode.
      yield* screen.type("typed\n")
      yield* screen.printed(/typed\r\ntyped/)
    }))

  it.effect("It waits for a store that cannot be reached yet, says so and why, and SIGTERM restores the terminal", () =>
    Effect.gen(function*() {
      const file = yield* program.Program
      const terminal = yield* program.inTerminal(
        `sh -c 'echo "pid $$"; exec "${process.execPath}" "${file}" sessions --watch --timeout 300ms'`,
        { KV_URL: "http://127.0.0.1:1" }
      )
      const [, pid] = yield* terminal.until(/pid (\d+)/)
      yield* terminal.until(/NO DATA YET: connecting for \d+s[^]*connect E/)
      yield* Effect.sync(() => process.kill(Number(pid), "SIGTERM"))
      assert.strictEqual(yield* terminal.end, 143)
      assert.isTrue(terminal.output().endsWith(leave))
    }))

  it.effect("q quits, and the arrow keys scroll a list that is longer than the screen", () =>
    Effect.gen(function*() {
      const screen = yield* open("locks many/ --watch")
      const scope = yield* Scope.fork(yield* Effect.scope)
      const { endpoints } = yield* EtcdCluster.EtcdCluster
      const names = Array.from({ length: 40 }, (_, i) => `many/${`${i}`.padStart(2, "0")}`)
      const context = yield* Layer.build(EtcdLayer.layer({ endpoints })).pipe(Scope.provide(scope))
      yield* Effect.forEach(names, (name) => DistLock.acquire(name), { concurrency: "unbounded" }).pipe(
        Effect.provide(context),
        Scope.provide(scope)
      )
      yield* screen.until("the first locks", (lines) =>
        has(/^many\/00 /)(lines) && has(/^1-\d+ of 40, arrows scroll. q quits$/)(lines))
      yield* screen.type(end)
      yield* screen.until("the last locks", (lines) =>
        has(/^many\/39 /)(lines) && !has(/^many\/00 /)(lines))
      yield* screen.type("q")
      yield* screen.printed(/code 0/)
    }))

  it.effect("In a terminal, a range is deleted only after confirmation", () =>
    Effect.gen(function*() {
      const file = yield* program.Program
      const { endpoints, etcdctl } = yield* EtcdCluster.EtcdCluster
      for (const key of ["ask/a", "ask/b"]) yield* etcdctl(["put", key, "1"])
      const answered = Effect.fnUntraced(function*(answer: string) {
        const terminal = yield* program.inTerminal(`'${process.execPath}' '${file}' delete ask/ --under`, {
          KV_URL: endpoints[0]!
        })
        yield* terminal.until(/Delete 2 keys under "ask\/"\?/)
        yield* terminal.type(answer)
        return { code: yield* terminal.end, output: terminal.output() }
      })
      assert.strictEqual((yield* answered("n")).code, 1)
      assert.strictEqual((yield* answered(program.ctrlC)).code, 1)
      const { code, output } = yield* answered("y")
      assert.strictEqual(code, 0)
      assert.include(output, "deleted 2 keys")
    }))
})
