/**
 * A round of load and faults, from an empty prefix to the history of everything that happened under it.
 *
 * Workers run until the faults are over and a while longer. Each completes its current step, the watches are read to
 * their end, and only then the clients close. Anything unexpected on the way is recorded as a problem.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import * as RangeView from "@effect-kv/core/RangeView"
import { type History, Recorder } from "@effect-kv/test-suite/verification"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import type { AppliedFault } from "./AppliedFault.ts"
import * as ApplyFaults from "./ApplyFaults.ts"
import * as EventLoopStalls from "./EventLoopStalls.ts"
import type { Entry } from "./Fault.ts"
import * as LeakCheck from "./LeakCheck.ts"
import * as Notes from "./Notes.ts"
import * as Residents from "./Residents.ts"
import * as SeededRandom from "./SeededRandom.ts"
import * as ServerStalls from "./ServerStalls.ts"
import type { Span } from "./Span.ts"
import type { Change } from "./Store.ts"
import type { Client, Testbed } from "./Testbed.ts"
import * as Views from "./Views.ts"
import * as watches from "./work/watches.ts"
import { Counters, type RecordedClient, type Write } from "./work/Worker.ts"
import * as Workers from "./Workers.ts"

/** The options of a round. */
export interface Options {
  readonly seed: number
  /** The prefix of all its keys. */
  readonly prefix: string
  readonly schedule: ReadonlyArray<Entry>
  /** The minimum duration of the load, in milliseconds. */
  readonly millis: number
  readonly progress: (text: string) => Effect.Effect<void>
  /** Changes the service's writes of counters. For tests of the harness. Default: none. */
  readonly mutateWrite?: ((write: Write) => Write) | undefined
  /** Changes a client's backend below the recorder. For tests of the harness. Default: none. */
  readonly mutateBackend?: ((client: string, backend: KvBackend) => KvBackend) | undefined
}

/** The result of a round. */
export interface Round {
  readonly history: History.History
  /** The store's own history, complete from the start of the round to its end. */
  readonly changes: ReadonlyArray<Change>
  readonly appliedFaults: ReadonlyArray<AppliedFault>
  /**
   * When the load started, when it was stopped, and when everything was closed; by the monotonic clock, in
   * nanoseconds.
   */
  readonly began: bigint
  readonly stopped: bigint
  readonly ended: bigint
  /** How often each kind of work was completed. */
  readonly done: Workers.Done
  /** Problems that the history does not show: a call that hung, a watch without events, an unexpected error. */
  readonly problems: ReadonlyArray<string>
  readonly notes: Notes.Notes
  /** When this process could not run, and when servers did not respond, both measured without the library. */
  readonly eventLoopStalls: ReadonlyArray<Span>
  readonly serverStalls: ReadonlyArray<Span>
}

/** How long the watches may take to catch up once the faults are over. */
const catchUp = "30 seconds"

export const run = Effect.fnUntraced(function*(testbed: Testbed, clients: ReadonlyArray<Client>, options: Options) {
  const { prefix, schedule, seed } = options
  const { store } = testbed
  const first = (yield* store.revision) + 1n
  const server = yield* store.record(first)
  const recorder = yield* Recorder.make
  const problems: Array<string> = []
  const eventLoopStalls: Array<Span> = []
  const serverStalls: Array<Span> = []
  let stopped = 0n
  let done: Workers.Done = {}
  let wrongViews: Residents.Residents["wrongViews"] = () => []
  const seen = clients.map((): Array<RangeView.Snapshot> => [])
  const notes = Notes.make(clients.map(({ name }) => name))
  /** A check that cannot be completed is a problem of the run. The rest of the run is checked all the same. */
  const attempt = <E>(what: string, effect: Effect.Effect<void, E>) =>
    Effect.catchCause(effect, (cause) => Effect.sync(() => void problems.push(`${what}: ${Cause.pretty(cause)}`)))
  const began = yield* Clock.monotonicTimeNanos

  const appliedFaults = yield* Effect.scoped(Effect.gen(function*() {
    const recorded = yield* Effect.forEach(clients, (client) => record(client, recorder, notes, options))
    yield* Effect.forkScoped(EventLoopStalls.record(eventLoopStalls))
    yield* Effect.forkScoped(ServerStalls.record(store, serverStalls))
    const views = yield* Effect.forEach(
      recorded,
      ({ kv }) => Effect.provideService(RangeView.make(KeyRange.prefix(`${prefix}txn/`)), Kv.Kv, kv)
    )
    yield* Effect.forEach(
      views,
      (view, i) =>
        Effect.forkScoped(
          Effect.onError(Views.look(view, seen[i]!), (cause) =>
            Effect.sync(() => Workers.noteUnexpected(cause, `the view of ${clients[i]!.name}`, problems, true)))
        )
    )
    const positions = yield* openWatches(recorded, seed, problems)
    const residents = yield* Residents.start(recorded, notes, problems)
    wrongViews = residents.wrongViews
    const workers = yield* Workers.start(recorded, seed, problems)
    done = workers.done
    const [appliedFaults] = yield* Effect.all([
      ApplyFaults.run(schedule, { testbed, history: server, locks: store.evictable(prefix) }, options.progress),
      Effect.sleep(options.millis)
    ], { concurrency: "unbounded" })
    yield* Effect.sleep("2 seconds")
    yield* attempt("looking for temporary keys", residents.areThere(store, [eventLoopStalls, serverStalls]))
    stopped = yield* Clock.monotonicTimeNanos
    yield* workers.end
    yield* attempt("waiting for the observers", residents.leadersAreSeen(catchUp))
    yield* attempt("waiting for the views of users", residents.usersAreSeen(catchUp))
    yield* attempt("waiting for the live settings", residents.settingsAreSeen(catchUp))
    yield* attempt("waiting for the last latch", Effect.scoped(residents.latchIsSeen(catchUp)))
    yield* attempt(
      "looking for keys that are left",
      Effect.map(LeakCheck.keysLeft(store, prefix), (left) => void problems.push(...left))
    )
    yield* attempt(
      "looking for watches that are left",
      Effect.map(LeakCheck.watchesLeft(store, clients.length), (left) => void problems.push(...left))
    )
    yield* attempt("waiting for the views of members", residents.membersAreSeen(catchUp))
    yield* attempt(
      "reading watches and views to their end",
      Effect.flatMap(
        toTheEnd(recorded, positions, problems),
        (end) =>
          Effect.forEach(
            views,
            (view, i) => Effect.map(Views.snapshotAt(view, end, catchUp), (last) => void seen[i]!.push(last)),
            { discard: true }
          )
      )
    )
    return appliedFaults
  }))

  const ended = yield* Clock.monotonicTimeNanos
  const left = yield* store.leases
  const history = yield* recorder.history
  const last = yield* store.revision
  const changes = yield* server.upTo(last)
  clients.forEach(({ name }, i) => {
    problems.push(...Views.wrongView(name, seen[i]!, changes), ...Views.isBehind(name, seen[i]!, changes))
  })
  problems.push(...wrongViews(changes), ...yield* store.broken(prefix, notes))
  const compacted = yield* store.compacted
  if (compacted > testbed.compactedAt) testbed.compactedAt = compacted
  problems.push(...LeakCheck.sessionsLeft(left, changes))
  return {
    history,
    changes,
    appliedFaults,
    began,
    stopped,
    ended,
    done,
    problems,
    notes,
    eventLoopStalls,
    serverStalls
  } satisfies Round
})

/** A client whose calls are recorded, and which is mutated if the options say so. */
export const record = Effect.fnUntraced(
  function*(
    client: Client,
    recorder: Recorder.Recorder,
    notes: Notes.Notes,
    { mutateBackend, mutateWrite, prefix }: Pick<Options, "mutateBackend" | "mutateWrite" | "prefix">
  ) {
    const { name } = client
    const recorded = (kv: Kv.Kv) =>
      Kv.make(recorder.client(name)(mutateBackend === undefined ? backendOf(kv) : mutateBackend(name, backendOf(kv))))
    // The service is the client's own: a lock does not fence the writes of another client.
    const withCounters = Effect.fnUntraced(function*(its: Kv.Kv) {
      const kv = yield* recorded(its)
      const counters = yield* Effect.provide(Counters, Counters.layer(mutateWrite ?? ((write) => write))).pipe(
        Effect.provideService(Kv.Kv, kv)
      )
      return { kv, counters }
    })
    const open = Effect.flatMap(client.open, withCounters)
    const { application } = client
    return {
      name,
      ...(yield* withCounters(client.kv)),
      open,
      recorder,
      notes,
      prefix,
      ...(application === undefined ? {} : { application })
    } satisfies RecordedClient
  }
)

// -----------------------------------------------------------------------------
// watches
// -----------------------------------------------------------------------------

/** The position of each client's watches, in the order of their plans. */
type Positions = ReadonlyArray<ReadonlyArray<watches.Position>>

const openWatches = (
  clients: ReadonlyArray<RecordedClient>,
  seed: number,
  problems: Array<string>
) =>
  Effect.forEach(clients, (client) =>
    Effect.forEach(watches.plans(client.prefix), (plan, i) => {
      const position: watches.Position = { revision: 0n }
      const random = SeededRandom.make(seed, client.name, "watch", i)
      const watching = Effect.onExit(watches.watching(client, plan, random, position), (exit) =>
        Effect.sync(() => {
          if (Exit.isFailure(exit)) Workers.noteUnexpected(exit.cause, `watch ${i} of ${client.name}`, problems, true)
        }))
      return Effect.as(Effect.forkScoped(watching), position)
    }))

/** Writes keys that every watch must deliver in the end, and waits until all have. */
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
