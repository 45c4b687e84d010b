/**
 * The demo: workers that start and stop, one of them killed while it holds the lock, without a lost increment.
 *
 * `npm run demo` runs it in memory, each worker in a fiber with its own client. `KV_URL=http://127.0.0.1:2379 npm run
 * demo` runs it on etcd, and `KV_URL=postgres://localhost/app npm run demo` on Postgres. `-- --processes 4` runs each worker in an operating system process. `-- election` shows an
 * election instead, and `-- semaphore` a semaphore. All end with a check, and with exit code 1 if that fails.
 */
import { KeyRange, Kv, Op } from "@effect-kv/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { parseArgs } from "node:util"
import * as ElectionDemo from "./demo/ElectionDemo.ts"
import * as Fibers from "./demo/Fibers.ts"
import type { Fleet } from "./demo/Fleet.ts"
import * as Printer from "./demo/Printer.ts"
import * as Processes from "./demo/Processes.ts"
import * as Report from "./demo/Report.ts"
import * as SemaphoreDemo from "./demo/SemaphoreDemo.ts"
import * as Store from "./demo/Store.ts"
import * as Worker from "./demo/Worker.ts"

const { positionals, values: args } = parseArgs({
  allowPositionals: true,
  options: {
    processes: { type: "string" },
    worker: { type: "string" },
    namespace: { type: "string" }
  }
})

const names = ["ada", "bert", "cleo", "dora", "emil", "fay", "gus", "hana"]

const coordinate = Effect.fnUntraced(function*(fleet: Fleet) {
  const kv = yield* Kv.Kv
  const print = yield* Printer.make(fleet.names, process.stdout.isTTY === true)
  yield* tour(print)
  yield* print.heading(`${fleet.names.length} workers (${fleet.kind}) share a counter under one lock`)
  yield* print.line(
    `The ${Worker.fatalHold}th to hold it will be killed. A lease lasts ${Duration.format(Worker.ttl)}.\n`
  )

  const membership = yield* kv.subscribe(KeyRange.prefix(Worker.workers))
  yield* membership.events.pipe(
    Stream.runForEach((event) =>
      print.event(event.key.slice(Worker.workers.length), event._tag === "Put" ? "joined" : "left")
    ),
    Effect.forkScoped
  )
  const report = yield* follow(fleet, print)
  const counter = yield* kv.get(Worker.counter)
  const log = yield* kv.range(KeyRange.prefix(Worker.log))
  yield* kv.deleteRange(KeyRange.all)
  yield* Report.conclude(report, counter, log.entries, print)
})

/** Starts the workers and follows their messages until the last one has ended. */
const follow = Effect.fnUntraced(function*(fleet: Fleet, print: Printer.Printer) {
  const report = Report.empty()
  yield* fleet.start
  let running = fleet.names.length
  while (running > 0) {
    const message = yield* Queue.take(fleet.messages)
    if (message._tag === "Ended") running--
    yield* Report.record(report, message, print)
    if (message._tag === "Holds" && message.isVictim) {
      yield* fleet.kill(message.worker)
      Report.recordKill(report, message.token, yield* Clock.currentTimeMillis)
      yield* print.event(message.worker, "KILLED while it holds the lock; the others wait for its lease to expire")
    }
  }
  return report
})

/** The basic operations, each with its result. */
const tour = Effect.fnUntraced(function*(print: Printer.Printer) {
  const kv = yield* Kv.Kv
  const row = (what: string, how: string, came: unknown) => print.line(`  ${what.padEnd(14)}${how.padEnd(30)}${came}`)
  yield* print.heading(`The basics, on ${Store.describe}`)
  const put = yield* kv.put("tour/limit", "10")
  yield* row("put", "tour/limit = 10", `revision ${put.revision}`)
  const limit = yield* kv.get("tour/limit")
  yield* row("get", "tour/limit", Option.getOrElse(limit, () => "nothing"))
  const txn = yield* kv.txn({
    then: [Op.put("tour/a", "1"), Op.put("tour/b", "2"), Op.range(KeyRange.prefix("tour/"))]
  })
  const seen = txn.succeeded ? txn.responses[2].count : 0
  yield* row("txn", "two puts and a range", `one revision, ${txn.revision}; the range sees ${seen} keys`)
  const rows = yield* kv.range(KeyRange.closed("tour/a", "tour/b"))
  yield* row("range", "from tour/a to tour/b", rows.entries.map((entry) => entry.key).join(", "))
  yield* row("test-and-set", "tour/limit 10 -> 11", yield* kv.testAndSet("tour/limit", limit, "11"))
  yield* row("test-and-set", "tour/limit 10 -> 12", yield* kv.testAndSet("tour/limit", limit, "12"))
  const deleted = yield* kv.deleteRange(KeyRange.prefix("tour/"))
  yield* row("delete", "everything under tour/", `${deleted.deleted} keys`)
})

/** The names of the workers. */
const fleetNames = (given: string): Effect.Effect<ReadonlyArray<string>, Error> => {
  const count = Number(given)
  return Number.isInteger(count) && count >= 2 && count <= names.length
    ? Effect.succeed(names.slice(0, count))
    : Effect.fail(new Error(`--processes takes a number from 2 to ${names.length}, not ${given}`))
}

const main = Effect.gen(function*() {
  if (args.worker !== undefined) {
    return yield* Processes.runWorker(args.worker, Number(args.processes), Store.namespaceOf(args.namespace))
  }
  const namespace = Store.freshNamespace()
  const [what] = positionals
  if (what === "election") return yield* ElectionDemo.run(names.slice(0, 3), namespace)
  if (what === "semaphore") return yield* SemaphoreDemo.run(names.slice(0, 5), namespace)
  if (what !== undefined) {
    return yield* Effect.fail(new Error(`there is no demo ${what}, only "election" and "semaphore"`))
  }
  const fleet = args.processes === undefined
    ? yield* Fibers.make(names.slice(0, 5), namespace)
    : yield* Processes.make(yield* fleetNames(args.processes), namespace)
  yield* Effect.provide(coordinate(fleet), Store.layer(namespace))
}).pipe(
  Effect.scoped,
  Effect.provide(NodeServices.layer),
  Effect.tapError((error) => Console.error(error.message))
)

NodeRuntime.runMain(main, { disableErrorReporting: true })
