/**
 * A runner in a process of its own, on etcd and Node's sockets. It begins when the first line of its standard input says
 * so, reports what it owns as lines of JSON, and does what the next lines say: `increment ID`, or `later ID MILLIS`.
 */
import { KvCluster, KvSingleton } from "@effect-kv/cluster"
import * as Kv from "@effect-kv/core/Kv"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as NodeClusterSocket from "@effect/platform-node/NodeClusterSocket"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { RunnerAddress, ShardId, Sharding } from "effect/cluster"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { flushCompileCache } from "node:module"
import * as Readline from "node:readline"
import { fenced, unfenced } from "../support/counters.ts"
import type { Line } from "../support/runnerProcesses.ts"

const [, , endpoint, prefix, port, shardCount, intervals] = process.argv

const input = Readline.createInterface({ input: process.stdin })

const begun = Effect.callback<void>((resume) => void input.once("line", () => resume(Effect.void)))

const report = (line: Line): Effect.Effect<void> =>
  Effect.sync(() => process.stdout.write(`${JSON.stringify({ ...line, at: Date.now() })}\n`))

const singleton = KvSingleton.make(
  "ticker",
  Effect.ensuring(
    Effect.andThen(report({ _tag: "Singleton", runs: true }), Effect.never),
    report({
      _tag: "Singleton",
      runs: false
    })
  )
)

/** Reports the number of owned shards when it changes. */
const owned = Layer.effectDiscard(Effect.gen(function*() {
  const sharding = yield* Sharding.Sharding
  const shards = Array.from({ length: Number(shardCount) }, (_, index) => ShardId.make("default", index + 1))
  let last = 0
  yield* Effect.suspend(() => {
    const count = shards.filter(sharding.hasShardId).length
    if (count === last) return Effect.void
    last = count
    return report({ _tag: "Shards", count })
  }).pipe(Effect.repeat(Schedule.spaced("10 millis")), Effect.forkScoped)
}))

/** Reports when a lease was granted or renewed. */
const reporting = Layer.effect(
  Kv.Kv,
  Effect.map(
    Kv.Kv,
    Kv.mapBackend((backend) => ({
      ...backend,
      leaseGrant: (options) => Effect.tap(backend.leaseGrant(options), report({ _tag: "Renewed" })),
      leaseKeepAlive: (id) => Effect.tap(backend.leaseKeepAlive(id), report({ _tag: "Renewed" }))
    }))
  )
)

/** Carries out the commands, each in a fiber of its own. */
const commands = Layer.effectDiscard(
  Stream.fromAsyncIterable(input, (error) => error).pipe(
    Stream.runForEach((line) => {
      const [command, id = "", millis] = line.split(" ")
      const done = (type: "fenced" | "unfenced", call: Effect.Effect<unknown, unknown, Sharding.Sharding>) =>
        Effect.flatMap(
          Effect.exit(call),
          (exit) =>
            report({ _tag: "Done", type, id, how: exit._tag === "Success" ? `${exit.value}` : String(exit.cause) })
        )
      return Effect.forkChild(
        command === "later"
          ? Effect.all([
            done("fenced", fenced.incrementLater(id, Number(millis))),
            done("unfenced", unfenced.incrementLater(id, Number(millis)))
          ], { concurrency: "unbounded" })
          : Effect.all([done("fenced", fenced.increment(id)), done("unfenced", unfenced.increment(id))], {
            concurrency: "unbounded"
          })
      )
    }),
    Effect.ignore,
    Effect.forkScoped
  )
)

const runner = Layer.mergeAll(fenced.layer, unfenced.layer, singleton, owned, commands).pipe(
  Layer.provide(
    KvCluster.layerSocket(
      Layer.merge(NodeClusterSocket.layerSocketServer, NodeClusterSocket.layerClientProtocol),
      {
        prefix,
        sharding: {
          runnerAddress: Option.some(RunnerAddress.make("127.0.0.1", Number(port))),
          shardsPerGroup: Number(shardCount),
          ...(intervals === "default" ? {} : {
            shardLockExpiration: "6 seconds",
            shardLockRefreshInterval: "2 seconds",
            refreshAssignmentsInterval: "200 millis",
            entityMessagePollInterval: "1 second"
          })
        }
      }
    )
  ),
  Layer.provideMerge(Layer.provide(reporting, EtcdLayer.layer({ endpoints: [endpoint!] }))),
  Layer.provide(Layer.succeed(Logger.LogToStderr, true))
)

// For the next process: this one may be killed.
flushCompileCache()

NodeRuntime.runMain(
  begun.pipe(
    Effect.andThen(report({ _tag: "Started" })),
    Effect.andThen(Layer.launch(runner))
  )
)
