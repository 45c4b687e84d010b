/** An etcd server for a file of tests, and the command line on it in the process of the test. */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as inProcess from "./inProcess.ts"

/** The server, and a client of the library on it. */
export const layer = Layer.unwrap(
  Effect.map(EtcdCluster.EtcdCluster, ({ endpoints }) => EtcdLayer.layer({ endpoints }))
).pipe(Layer.provideMerge(EtcdCluster.layer()))

/** Runs effect-kv on the server. */
export const effectKv = Effect.fnUntraced(function*(
  args: ReadonlyArray<string>,
  options: inProcess.Options = {},
  output?: inProcess.Output
) {
  const { endpoints } = yield* EtcdCluster.EtcdCluster
  return yield* inProcess.run(args, { ...options, env: { KV_URL: endpoints[0]!, ...options.env } }, output)
})

/** Runs it with `--json`, and returns what it prints. */
export const json = (args: ReadonlyArray<string>, options: inProcess.Options = {}) =>
  Effect.map(effectKv([...args, "--json"], options), inProcess.json)

/** Another client of the library, as in another process. */
export const otherClient = Effect.gen(function*() {
  const { endpoints } = yield* EtcdCluster.EtcdCluster
  return yield* Layer.build(EtcdLayer.layer({ endpoints }))
})

/** Waits until there are as many keys under a prefix. */
export const untilKeys = (prefix: string, count: number) =>
  Effect.gen(function*() {
    const kv = yield* Kv.Kv
    yield* Effect.repeat(kv.count(KeyRange.prefix(prefix)), {
      until: (found) => found === count,
      schedule: Schedule.spaced("10 millis")
    })
  })
