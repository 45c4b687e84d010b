/** An etcd server for a file of tests, the bundled command line, and what the tests look up in the store. */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { EtcdBinaries, EtcdCluster } from "@effect-kv/test-suite/verification"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { type Running, start } from "./program.ts"
import * as program from "./program.ts"

const client = Layer.unwrap(
  Effect.map(EtcdCluster.EtcdCluster, ({ endpoints }) => EtcdLayer.layer({ endpoints }))
)

export const layer = Layer.merge(Layer.provideMerge(client, EtcdCluster.layer()), program.layer)

/** The variables that name the server, for effect-kv and for etcdctl. */
export const variables = Effect.map(EtcdCluster.EtcdCluster, ({ endpoints }) => ({
  KV_URL: endpoints[0]!,
  ETCDCTL_ENDPOINTS: endpoints[0]!,
  ETCDCTL_API: "3"
}))

/** Starts effect-kv on the server, without a terminal. */
export const effectKv = Effect.fnUntraced(function*(args: ReadonlyArray<string>, env: Record<string, string> = {}) {
  const file = yield* program.Program
  return yield* start(process.execPath, [file, ...args], { ...yield* variables, ...env })
})

/** Starts effect-kv on the server in a terminal. The arguments are part of a shell command. */
export const effectKvInTerminal = Effect.fnUntraced(function*(args: string) {
  const file = yield* program.Program
  return yield* program.inTerminal(`'${process.execPath}' '${file}' ${args}`, yield* variables)
})

/** Starts etcdctl on the server in a terminal. */
export const etcdctlInTerminal = Effect.fnUntraced(function*(args: string) {
  const { etcdctl } = yield* EtcdBinaries.current
  return yield* program.inTerminal(`'${etcdctl}' ${args}`, yield* variables)
})

/** Runs effect-kv to its end, and returns its exit code, and what it has written: all, and to standard output. */
export const finished = Effect.fnUntraced(function*(args: ReadonlyArray<string>, env: Record<string, string> = {}) {
  const running: Running = yield* effectKv(args, env)
  return { code: yield* running.end, output: running.output(), results: running.results() }
})

/** The keys under a prefix. */
export const keys = Effect.fnUntraced(function*(prefix: string) {
  const kv = yield* Kv.Kv
  return (yield* kv.range(KeyRange.prefix(prefix), { keysOnly: true })).entries.map(({ key }) => key)
})

/** Waits until there are as many keys under a prefix. */
export const untilKeys = (prefix: string, count: number) =>
  Effect.repeat(keys(prefix), { until: (keys) => keys.length === count, schedule: Schedule.spaced("20 millis") })

/** Deletes all keys under a prefix, as a person on call might. */
export const remove = (prefix: string) => Effect.flatMap(Kv.Kv, (kv) => kv.deleteRange(KeyRange.prefix(prefix)))

/** Whether a process exists. */
export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
