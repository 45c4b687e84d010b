/**
 * Load and faults for a while, from an empty prefix to a history of everything that happened under it.
 *
 * Workers go on until the faults are over and then some, each ends what it is at, the watches are read to the end, and
 * only then the clients close. What should not happen on the way is noted as a problem.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import type * as Latest from "@effect-kv/core/Latest"
import * as Op from "@effect-kv/core/Op"
import type * as EtcdCluster from "@effect-kv/test-suite/EtcdCluster"
import type * as History from "@effect-kv/test-suite/History"
import * as Recorder from "@effect-kv/test-suite/Recorder"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Dice from "./Dice.ts"
import type { Entry } from "./Fault.ts"
import type { Inflicted } from "./Inflict.ts"
import * as Inflict from "./Inflict.ts"
import * as Pulse from "./Pulse.ts"
import type { Client, Stage } from "./Stage.ts"
import * as data from "./work/data.ts"
import * as leases from "./work/leases.ts"
import * as locks from "./work/locks.ts"
import * as visits from "./work/visits.ts"
import * as watches from "./work/watches.ts"
import type { RecordedClient, Step } from "./work/Worker.ts"

/** What a round consists of. */
export interface Options {
  readonly seed: number
  /** What all its keys begin with. */
  readonly prefix: string
  readonly schedule: ReadonlyArray<Entry>
  /** How long the load lasts at least, in milliseconds. */
  readonly millis: number
  readonly progress: (text: string) => Effect.Effect<void>
}

/** What came of it. */
export interface Round {
  readonly history: History.History
  /** The store's own account, complete from the beginning of the round to its end. */
  readonly changes: ReadonlyArray<EtcdCluster.HistoryEvent>
  readonly inflicted: ReadonlyArray<Inflicted>
  /** Calls that had ended when the first fault began. */
  readonly callsBeforeFaults: number
  /** When the load began and ended, by the monotonic clock, in nanoseconds. */
  readonly began: bigint
  readonly ended: bigint
  /** What went wrong beside what the history tells: a call that hung, a watch that fell silent, an error that may not be. */
  readonly problems: ReadonlyArray<string>
  /** When this process could not run. */
  readonly standstills: ReadonlyArray<Pulse.Standstill>
}

/** The workers of each client. */
const crew: ReadonlyArray<readonly [name: string, count: number, step: Step]> = [
  ["register", 12, data.register],
  ["compareAndSet", 4, data.compareAndSet],
  ["txn", 6, data.txn],
  ["append", 2, data.append],
  ["lease", 1, leases.lease],
  ["temporaryKey", 1, leases.temporaryKey],
  ["increment", 3, locks.increment],
  ["visit", 1, visits.visit]
]

/** How long a worker rests between two things it does, from and to, in milliseconds. */
const rest = [2, 20] as const

/** After what time a worker hangs that was told to end. All it does has a deadline. */
const hanging = "40 seconds"

/** How long the watches may take to the end once all is well. */
const catchUp = "30 seconds"

export const run = Effect.fnUntraced(function*(stage: Stage, clients: ReadonlyArray<Client>, options: Options) {
  const { prefix, schedule, seed } = options
  const { cluster } = stage
  const first = (yield* cluster.revision) + 1n
  const server = yield* cluster.watchFrom(first)
  const recorder = yield* Recorder.make
  const problems: Array<string> = []
  const standstills: Array<Pulse.Standstill> = []
  let callsBeforeFaults = 0
  let stopped = false
  let snapshots: ReadonlyArray<Latest.Snapshot> = []
  const began = yield* Clock.monotonicTimeNanos

  const inflicted = yield* Effect.scoped(Effect.gen(function*() {
    const recorded = yield* Effect.forEach(clients, (client) => record(client, recorder, prefix))
    yield* Effect.forkScoped(Pulse.feel(standstills))
    const views = yield* Effect.forEach(recorded, ({ kv }) => kv.latest(KeyRange.prefix(`${prefix}txn/`)))
    const positions = yield* openWatches(recorded, seed, problems)
    yield* Effect.forEach(recorded, (client) => Effect.forkScoped(leases.resident(client)))
    const workers = yield* Effect.forEach(
      recorded.flatMap((client) =>
        crew.flatMap(([name, count, step]) => Array.from({ length: count }, (_, i) => ({ client, name, i, step })))
      ),
      ({ client, i, name, step }) => {
        const loop = working(client, `${name}/${i}`, step, seed, () => stopped, problems)
        return Effect.forkScoped(loop)
      }
    )
    const begins = schedule[0]?.at ?? options.millis
    const counting = Effect.delay(
      Effect.map(recorder.history, ({ calls }) => {
        callsBeforeFaults = calls.filter((call) => call.completed !== undefined).length
      }),
      Math.max(0, begins - 50)
    )
    const [inflicted] = yield* Effect.all([
      Inflict.run(schedule, { stage, history: server, lock: locks.lockNames(prefix)[0] }, options.progress),
      Effect.sleep(options.millis),
      counting
    ], { concurrency: "unbounded" })
    yield* Effect.sleep("2 seconds")
    yield* residentsAreThere(cluster, recorded, problems)
    stopped = true
    const ended = yield* Effect.timeoutOption(Fiber.awaitAll(workers), hanging)
    if (ended._tag === "None") problems.push(`a worker did not end within ${hanging} of being told to`)
    const end = yield* toTheEnd(recorded, positions, problems)
    snapshots = yield* Effect.forEach(views, (view) => snapshotAt(view, end))
    return inflicted
  }))

  const ended = yield* Clock.monotonicTimeNanos
  const history = yield* recorder.history
  const last = yield* cluster.revision
  const changes = yield* server.upTo(last)
  snapshots.forEach((snapshot, i) => problems.push(...wrongView(clients[i]!.name, snapshot, changes)))
  return { history, changes, inflicted, callsBeforeFaults, began, ended, problems, standstills } satisfies Round
})

const record = Effect.fnUntraced(function*(client: Client, recorder: Recorder.Recorder, prefix: string) {
  const { name } = client
  const recorded = (kv: Kv.Kv) => Kv.make(recorder.client(name)(kv.backend))
  const open = Effect.flatMap(client.open, recorded)
  return { name, kv: yield* recorded(client.kv), open, recorder, prefix } satisfies RecordedClient
})

// -----------------------------------------------------------------------------
// workers
// -----------------------------------------------------------------------------

const working = Effect.fnUntraced(function*(
  client: RecordedClient,
  name: string,
  step: Step,
  seed: number,
  isStopped: () => boolean,
  problems: Array<string>
) {
  for (let i = 0; !isStopped(); i++) {
    const dice = Dice.make(seed, client.name, name, i)
    const rests = dice.int(...rest)
    // Some callers lose their patience.
    const patience = dice.chance(0.01) ? dice.int(0, 10) : undefined
    const doing = Effect.suspend(() => step(client, dice))
    const exit = yield* Effect.exit(patience === undefined ? doing : Effect.timeoutOption(doing, patience))
    if (Exit.isFailure(exit)) noteUnexpected(exit.cause, `${client.name} ${name} step ${i}`, problems)
    yield* Effect.sleep(rests)
  }
})

/** What a step may fail with while servers and links do. */
const expected: ReadonlySet<string> = new Set([
  "Unavailable",
  "DeadlineExceeded",
  "Indeterminate",
  "Compacted",
  "LeaseNotFound",
  "LockLost",
  "LockTimeout",
  "LockHoldExceeded"
])

const noteUnexpected = (cause: Cause.Cause<unknown>, what: string, problems: Array<string>): void => {
  for (const reason of cause.reasons) {
    if (reason._tag === "Interrupt" || reason._tag === "Fail" && expected.has(tagOf(reason.error))) continue
    problems.push(`${what} failed as it may not: ${Cause.pretty(cause)}`)
  }
}

const tagOf = (error: unknown): string => {
  if (KvError.isKvError(error)) return error.reason._tag
  return typeof error === "object" && error !== null && "_tag" in error ? String(error._tag) : ""
}

/** A temporary key that was lost is there again when all has been well for a while. */
const residentsAreThere = Effect.fnUntraced(function*(
  cluster: Stage["cluster"],
  clients: ReadonlyArray<RecordedClient>,
  problems: Array<string>
) {
  const first = clients[0]!
  const all = leases.residentKey(first.prefix, "")
  const there = new Set((yield* cluster.etcdctl(["get", all, "--prefix", "--keys-only"])).split("\n"))
  for (const { name, prefix } of clients) {
    const key = leases.residentKey(prefix, name)
    if (!there.has(key)) problems.push(`the temporary key ${key} is missing, 2 seconds after the last fault`)
  }
})

// -----------------------------------------------------------------------------
// watches
// -----------------------------------------------------------------------------

/** Where the watches of each client are, in the order of their plans. */
type Positions = ReadonlyArray<ReadonlyArray<watches.Position>>

const openWatches = (
  clients: ReadonlyArray<RecordedClient>,
  seed: number,
  problems: Array<string>
) =>
  Effect.forEach(clients, (client) =>
    Effect.forEach(watches.plans(client.prefix), (plan, i) => {
      const position: watches.Position = { revision: 0n }
      const dice = Dice.make(seed, client.name, "watch", i)
      const watching = Effect.onExit(watches.watching(client, plan, dice, position), (exit) =>
        Effect.sync(() => {
          if (Exit.isFailure(exit)) noteUnexpected(exit.cause, `watch ${i} of ${client.name}`, problems)
        }))
      return Effect.as(Effect.forkScoped(watching), position)
    }))

/** Writes something that every watch must give in the end, and waits until all have. */
const toTheEnd = Effect.fnUntraced(function*(
  clients: ReadonlyArray<RecordedClient>,
  positions: Positions,
  problems: Array<string>
) {
  const { kv, name, prefix, recorder } = clients[0]!
  const settled = { schedule: Schedule.spaced("200 millis"), times: 50 }
  const keys = [`${prefix}end`, `${prefix}register/end`, `${prefix}txn/end`]
  const puts = yield* Effect.forEach(keys, (key) => Effect.map(recorder.value(name), (value) => Op.put(key, value)))
  const { revision: put } = yield* Effect.retry(kv.txn({ then: puts }), settled)
  const { revision: deleted } = yield* Effect.retry(kv.delete(keys[0]!), settled)
  const ends = [deleted, put, put, deleted]
  const behind = () =>
    positions.flatMap((ofClient, c) =>
      ofClient.flatMap(({ revision }, i) =>
        revision >= ends[i]! ? [] : [`watch ${i} of ${clients[c]!.name} is at revision ${revision} of ${ends[i]}`]
      )
    )
  const done = Effect.repeat(Effect.sleep("20 millis"), { until: () => behind().length === 0 })
  const reached = yield* Effect.timeoutOption(done, catchUp)
  if (reached._tag === "None") problems.push(...behind().map((watch) => `${watch}, ${catchUp} after the last fault`))
  return put
})

// -----------------------------------------------------------------------------
// views
// -----------------------------------------------------------------------------

/** What a view shows when it has come to the revision, or when it should have. */
const snapshotAt = (view: Latest.Latest, revision: bigint): Effect.Effect<Latest.Snapshot, KvError.KvError> =>
  Effect.timeoutOrElse(
    Effect.repeat(view.snapshot, {
      until: (snapshot) => snapshot.revision >= revision,
      schedule: Schedule.spaced("20 millis")
    }).pipe(Effect.andThen(view.snapshot)),
    { duration: catchUp, orElse: () => view.snapshot }
  )

/** A view shows what the store held at its revision; nothing changes any more when it is looked at. */
const wrongView = (
  client: string,
  { entries, revision }: Latest.Snapshot,
  changes: ReadonlyArray<EtcdCluster.HistoryEvent>
): ReadonlyArray<string> => {
  const held = new Map<string, EtcdCluster.HistoryEvent>()
  for (const change of changes) {
    if (!/^[^/]*\/txn\//.test(change.key)) continue
    if (change.type === "put") held.set(change.key, change)
    else held.delete(change.key)
  }
  const differs = [...new Set([...held.keys(), ...entries.keys()])].filter((key) =>
    held.get(key)?.value !== entries.get(key)?.text || held.get(key)?.modRevision !== entries.get(key)?.modRevision
  )
  return differs.length === 0 ? [] : [`the view of ${client} at revision ${revision} is wrong in ${differs.join(", ")}`]
}
