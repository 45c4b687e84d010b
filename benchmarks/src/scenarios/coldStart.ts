/**
 * A cold start on a running server. `cold-start`: from the start of a process to the response to its first
 * `get`. `first-get`: of that, the import of the client and the call. An operation is a process.
 *
 * The Node programs import what is published: the compiled packages, arranged as an installation would.
 */
import * as GoClient from "@effect-kv/interop/GoClient"
import * as GoProgram from "@effect-kv/interop/GoProgram"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import * as Measure from "../Measure.ts"
import type { Round } from "../Row.ts"
import type { Scenario } from "../Scenario.ts"
import * as Calls from "../subjects/Calls.ts"
import { bundled, installation, installed } from "./packages.ts"

/** What one process took, in milliseconds. */
interface Start {
  readonly sinceSpawn: number
  readonly sinceImport: number
  readonly cpuMicros: number
}

const scenario = (name: string, from: "sinceSpawn" | "sinceImport"): Scenario => ({
  name,
  run: Effect.fnUntraced(function*({ etcd, needed, options }) {
    const { endpoints, etcdctl } = yield* etcd
    yield* etcdctl(["put", key, Calls.value])
    yield* installed
    yield* bundled("get.mjs", getModules)
    const isGoMeasured = from === "sinceSpawn" && GoProgram.file() !== undefined
    const starts = needed(1, [
      { name: "etcd3", round: startNode(ofEtcd3, endpoints) },
      { name: "effect-kv", round: startNode(ofEffectKv, endpoints) },
      { name: "effect-kv by module", round: startNode(ofEffectKvByModule, endpoints) },
      { name: "effect-kv bundled", round: startNode(ofEffectKvBundled, endpoints) },
      ...(isGoMeasured ? [{ name: "Go", round: startGo(endpoints) }] : [])
    ]).map(({ name, round }) => ({ name, round: Effect.map(round, (start) => roundOf(start[from], start.cpuMicros)) }))
    // The first start of each reads its files from the disk.
    yield* Effect.forEach(starts, ({ round }) => round, { discard: true })
    return yield* Measure.takeTurns(name, 1, options.rounds + 2, starts)
  })
})

export const coldStart = scenario("cold-start", "sinceSpawn")
export const firstGet = scenario("first-get", "sinceImport")

const key = Calls.key("cold-start")

const ofEtcd3 = `
  const { Etcd3 } = await import("etcd3")
  const client = new Etcd3({ hosts: process.env.ENDPOINTS.split(",") })
  responded(await client.get(${JSON.stringify(key)}).string())
  client.close()`

const getByEffectKv = `
  const layer = EtcdLayer.layer({ endpoints: process.env.ENDPOINTS.split(",") })
  const get = Effect.map(Kv.get(${JSON.stringify(key)}), (value) => responded(Option.getOrThrow(value)))
  await Effect.runPromise(Effect.provide(get, layer))`

const ofEffectKv = `
  const [{ Kv }, { EtcdLayer }, { Effect, Option }] = await Promise.all([
    import("@effect-kv/core"), import("@effect-kv/etcd"), import("effect")
  ])
${getByEffectKv}`

/** The same without what the index modules import beside. */
const ofEffectKvByModule = `
  const [Kv, EtcdLayer, Effect, Option] = await Promise.all([
    import("@effect-kv/core/Kv"), import("@effect-kv/etcd/EtcdLayer"), import("effect/Effect"), import("effect/Option")
  ])
${getByEffectKv}`

/** The same in one file, with `effect` and without what a `get` does not use. */
const getModules = `
  export * as Kv from "@effect-kv/core/Kv"
  export * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
  export * as Effect from "effect/Effect"
  export * as Option from "effect/Option"`

const ofEffectKvBundled = `
  const { Kv, EtcdLayer, Effect, Option } = await import("./get.mjs")
${getByEffectKv}`

const beginning = `
  const started = performance.now()
  const responded = (value) => {
    if (value.length !== ${Calls.value.length}) throw new Error("the value is wrong")
    const { user, system } = process.cpuUsage()
    console.log(JSON.stringify([performance.now() - started, user + system]))
  }`

const startNode = (program: string, endpoints: ReadonlyArray<string>): Effect.Effect<Start, unknown> =>
  Effect.callback((resume) => {
    const started = performance.now()
    let sinceSpawn = 0
    const child = execFile(process.execPath, ["--input-type=module", "-e", beginning + program], {
      cwd: installation,
      env: { ...process.env, ENDPOINTS: endpoints.join(",") }
    }, (error, stdout) => {
      if (error !== null) return resume(Effect.fail(error))
      const [sinceImport, cpuMicros] = JSON.parse(stdout) as [number, number]
      resume(Effect.succeed({ sinceSpawn, sinceImport, cpuMicros }))
    })
    child.stdout?.once("data", () => {
      sinceSpawn = performance.now() - started
    })
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** A compiled program has nothing to import. */
const startGo = (endpoints: ReadonlyArray<string>): Effect.Effect<Start, unknown> =>
  Effect.scoped(Effect.gen(function*() {
    const started = performance.now()
    const client = yield* GoClient.open(yield* GoProgram.start, { endpoints })
    yield* client.get(key)
    const sinceSpawn = performance.now() - started
    return { sinceSpawn, sinceImport: sinceSpawn, cpuMicros: yield* GoClient.cpuMicros(client) }
  }))

const roundOf = (millis: number, cpuMicrosPerOp: number): Round => ({
  opsPerSecond: 1000 / millis,
  p50Ms: millis,
  p99Ms: millis,
  cpuMicrosPerOp
})
