/**
 * The cost of metrics: the same calls with the default and with `metrics: false`, in one process and against one server.
 * The goal is that calls at 256 in flight lose at most 3 % of throughput, and use at most 3 % more CPU time.
 *
 * That is less than what else a machine does. So there are many short rounds, compared in blocks (see `Paired.ts`). A
 * second client without metrics shows what the measurement finds between two clients that do the same.
 *
 * `metrics-client` has no server: its backend responds in the next task. What is left is the client's own work, which
 * varies less than a server's, and of which the metrics are a larger part.
 */
import { Kv, KvMetrics } from "@effect-kv/core"
import { Batching, type KvBackend } from "@effect-kv/core/backend"
import * as Op from "@effect-kv/core/Op"
import { EtcdLayer } from "@effect-kv/etcd"
import { MemoryStore } from "@effect-kv/memory"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Measure from "../Measure.ts"
import * as Paired from "../Paired.ts"
import { type Round, type Row, rowsOf } from "../Row.ts"
import type { Scenario } from "../Scenario.ts"
import * as Calls from "../subjects/Calls.ts"
import * as effectKv from "../subjects/effectKv.ts"

/** A round, and before it a part that is not measured: what ran before must not matter. */
const millis = { round: 100, before: 25 }

interface Clients {
  readonly without: Kv.Kv
  readonly measured: Kv.Kv
  readonly again: Kv.Kv
}

/** Compares the clients. In each block all take turns forwards and backwards, and each begins equally often. */
const compare = Effect.fnUntraced(function*(
  scenario: string,
  inFlight: number,
  name: "get" | "put",
  { again, measured, without }: Clients,
  { blocks, warmUps }: { readonly blocks: number; readonly warmUps: number }
) {
  const subjects: ReadonlyArray<Measure.Subject> = [
    { name: "without metrics", ...effectKv.calls("metrics", without)[name] },
    { name: "with metrics", ...effectKv.calls("metrics", measured)[name] },
    { name: "without metrics, again", ...effectKv.calls("metrics", again)[name] }
  ]
  for (let i = 0; i < warmUps; i++) yield* Measure.warmUp(inFlight, subjects, millis.round)
  const found = new Map<string, Array<Round>>(subjects.map((subject) => [subject.name, []]))
  for (let block = 0; block < blocks; block++) {
    const first = block % subjects.length
    const order = [...subjects.slice(first), ...subjects.slice(0, first)]
    for (const subject of [...order, ...order.toReversed()]) {
      Measure.collectGarbage()
      yield* Measure.closedLoop(subject, inFlight, millis.before)
      found.get(subject.name)!.push(yield* Measure.closedLoop(subject, inFlight, millis.round))
    }
  }
  const [without_, with_, again_] = rowsOf(scenario, inFlight, found) as readonly [Row, Row, Row]
  return [
    without_,
    { ...with_, paired: Paired.compare(with_, [without_, again_]) },
    { ...again_, paired: Paired.compare(again_, [without_]) }
  ]
})

const onEtcd = (name: "get" | "put"): Scenario => ({
  name: `metrics-${name}`,
  run: Effect.fnUntraced(function*({ etcd, goals, quick }) {
    const { endpoints } = yield* etcd
    const clients = {
      without: yield* open({ endpoints, metrics: false }),
      measured: yield* open({ endpoints }),
      again: yield* open({ endpoints, metrics: false })
    }
    const rows: Array<Row> = []
    for (const inFlight of goals ? [256] : [1, 256]) {
      for (let caller = 0; caller < inFlight; caller++) yield* clients.measured.put(Calls.key(caller), Calls.value)
      const times = quick ? { blocks: 3, warmUps: 1 } : { blocks: 65, warmUps: 10 }
      rows.push(...yield* compare(`metrics-${name}`, inFlight, name, clients, times))
    }
    return rows
  })
})

const open = (options: EtcdLayer.Options) =>
  Effect.map(Layer.build(EtcdLayer.layer(options)), (context) => Context.get(context, Kv.Kv))

export const get = onEtcd("get")
export const put = onEtcd("put")

export const client: Scenario = {
  name: "metrics-client",
  run: Effect.fnUntraced(function*({ quick }) {
    const backend = yield* responding
    const metrics = yield* KvMetrics.calls({ "db.system.name": "none" })
    const clients = {
      without: yield* Kv.make(Batching.batched()(backend)),
      measured: yield* Kv.make(Batching.batched({ metrics })(backend)),
      again: yield* Kv.make(Batching.batched()(backend))
    }
    const times = quick ? { blocks: 3, warmUps: 1 } : { blocks: 65, warmUps: 10 }
    return yield* compare("metrics-client", 256, "put", clients, times)
  })
}

/** A backend whose puts, alone or in a transaction, do nothing, and respond in the next task of the event loop. */
const responding = Effect.gen(function*() {
  const other = yield* Effect.flatMap(MemoryStore.make(), (store) => store.connect)
  const response = Op.putResponse({ revision: 1n, previous: Option.none() })
  const responseTo = (op: Op.Op): Op.Response<Op.Op> =>
    op._tag === "Txn"
      ? Op.txnResponse({ revision: 1n, succeeded: true, responses: op.then.map(() => response) })
      : response
  const backend: KvBackend.KvBackend = {
    ...other,
    execute: (op) =>
      Effect.callback((resume) => {
        setImmediate(() => resume(Effect.succeed(responseTo(op))))
      })
  }
  return backend
})
