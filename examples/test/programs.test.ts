/**
 * Each example runs as a program and ends by itself, on memory if `KV_URL` is not set.
 */
import { MemoryLayer } from "@effect-kv/memory"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as StoreByUrl from "../src/StoreByUrl.ts"

const source = (name: string): string => fileURLToPath(new URL(`../src/${name}.ts`, import.meta.url))

/** The lines that the program prints. Fails if the program fails. */
const run = (name: string, environment: Record<string, string> = {}): Effect.Effect<ReadonlyArray<string>, Error> =>
  Effect.callback((resume) => {
    const { KV_URL: _, ...inherited } = process.env
    const child = execFile(
      process.execPath,
      [source(name)],
      { env: { ...inherited, ...environment } },
      (error, output, errors) =>
        resume(error === null ? Effect.succeed(output.trimEnd().split("\n")) : Effect.fail(new Error(output + errors)))
    )
    return Effect.sync(() => child.kill("SIGKILL"))
  })

describe("the examples run as programs", { concurrent: true, timeout: 120_000 }, () => {
  it.live("StoreByUrl", () =>
    Effect.gen(function*() {
      const runs = [run("StoreByUrl"), run("StoreByUrl", { KV_URL: "mem:shared" })]
      for (const lines of yield* Effect.all(runs, { concurrency: "unbounded" })) {
        assert.deepStrictEqual(lines, ["this is run number 1"])
      }
    }))

  it.live("StoreByUrl reports what is wrong with a URL without printing the URL", () =>
    Effect.gen(function*() {
      const { message } = yield* Effect.flip(run("StoreByUrl", { KV_URL: "redis://user:secret@127.0.0.1" }))
      assert.include(message, "no backend is given for the scheme")
      assert.notInclude(message, "secret")
    }))

  it.live("Observed", () =>
    Effect.gen(function*() {
      const lines = yield* run("Observed")
      assert.strictEqual(lines[0], "ready")
      assert.include(lines.join("\n"), `effect_kv_lock_hold_seconds_count{kind="lock"} 3`)
    }))

  it.live("ConfigReload", () =>
    Effect.gen(function*() {
      const lines = yield* run("ConfigReload")
      assert.strictEqual(lines[0], "the limit is 10")
      assert.match(lines.join("\n"), /^the limit is 20 \(limit: expected .*\)$/m)
      assert.strictEqual(lines.at(-1), "the limit is 30")
    }))

  it.live("UserRegistry", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* run("UserRegistry"), ["ada: 2", "unreadable: users/bert", "carl: 1"])
    }))

  it.live("Transfers", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* run("Transfers"), ["transfers: 30", "total: 300"])
    }))

  it.live("ImportCounter", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* run("ImportCounter"), ["numbers: 35", "imported: 35"])
    }))

  it.live("ServiceRegistry", () =>
    Effect.gen(function*() {
      const lines = yield* run("ServiceRegistry")
      assert.strictEqual(lines[0], "none")
      assert.deepStrictEqual(lines.slice(-2), ["b", "request for ada: 10.0.0.2:80"])
    }))

  it.live("IdGenerator", () =>
    Effect.gen(function*() {
      const [line] = yield* run("IdGenerator")
      assert.include(line, "6 ids, 6 different")
    }))

  it.live("WorkerCount", () =>
    Effect.gen(function*() {
      const lines = yield* run("WorkerCount")
      assert.strictEqual(lines[0], "running: 0")
      assert.strictEqual(lines.at(-1), "running: 0")
      assert.include(lines.join("\n"), "bert")
    }))

  it.live("BoundedImports, SearchIndex and OneWay", () =>
    Effect.gen(function*() {
      const [imports, index, road] = yield* Effect.all(
        [run("BoundedImports"), run("SearchIndex"), run("OneWay")],
        { concurrency: "unbounded" }
      )
      // How many run at once depends on the machine. The example's own test shows that they use all permits.
      assert.match(imports.at(-1)!, /^at most [1-3] of 3 permits were used$/)
      assert.strictEqual(index.length, 3)
      assert.match(road[0]!, /no two of them met/)
    }))

  it.live("NightlyReport", () =>
    Effect.gen(function*() {
      const lines = yield* run("NightlyReport")
      assert.deepStrictEqual(lines.map((line) => line.split(" ")[1]).sort(), ["found", "found", "made"])
    }))

  it.live("NightlyCron", () =>
    Effect.gen(function*() {
      const [migrations, ...reports] = yield* run("NightlyCron")
      assert.strictEqual(migrations, "1 migration was run")
      assert.strictEqual(new Set(reports).size, 3)
    }))

  it.live("EpochBarrier", () =>
    Effect.gen(function*() {
      const [gate, ...lines] = yield* run("EpochBarrier")
      assert.strictEqual(gate, "the gate opens")
      assert.deepStrictEqual(lines.map((line) => line.split(":")[0]), [
        ...Array.from({ length: 3 }, () => "epoch 0"),
        ...Array.from({ length: 3 }, () => "epoch 1")
      ])
    }))

  it.live("LoginSessions", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* run("LoginSessions"), [
        "after 1 s of use: logged in",
        "after 2 s of use: logged in",
        "after 3 s of use: logged in",
        "then idle for too long: logged out"
      ])
    }))
})

it.effect("a program behaves the same on every layer", () =>
  Effect.gen(function*() {
    assert.strictEqual(yield* StoreByUrl.program, 1)
    assert.strictEqual(yield* StoreByUrl.program, 2)
  }).pipe(Effect.provide(MemoryLayer.layer)))
