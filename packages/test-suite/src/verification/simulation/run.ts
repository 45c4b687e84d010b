/**
 * A run of the simulation: processes that work on one store, each over its own link, and the faults that strike them.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type { KvError } from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as RunOnce from "@effect-kv/core/RunOnce"
import * as TempKey from "@effect-kv/core/TempKey"
import type { WatchRequest } from "@effect-kv/core/Watch"
import * as Cron from "effect/Cron"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as KvFaults from "../../testing/KvFaults.ts"
import type * as History from "../history/History.ts"
import type * as Recorder from "../history/Recorder.ts"
import * as Workload from "../workload/Workload.ts"
import * as invariants from "./invariants.ts"
import type { Options, Store } from "./options.ts"
import { pause } from "./pause.ts"
import * as recipes from "./recipes.ts"
import { type FaultProfile, ratesOf, type Scenario, scenarioOf } from "./scenario.ts"
import * as transfers from "./transfers.ts"
import type { Process, World } from "./World.ts"

/** The records of a run, which exist even if it does not finish. */
export interface RunRecords {
  /** Records the clients. */
  readonly clients: Recorder.Recorder
  /** Records a watch of the store itself, from the first write to the last. */
  readonly store: Recorder.Recorder
  readonly faults: Array<string>
}

/** The end of a run. */
export interface End {
  readonly history: History.History
  /** The revision that all open watches could read up to. */
  readonly revision: bigint
  readonly counts: Readonly<Record<string, number>>
  readonly compactedAt: bigint
  /** Leases, watches and keys that were left behind. */
  readonly leftBehind: ReadonlyArray<string>
  /** Broken invariants. */
  readonly brokenInvariants: ReadonlyArray<string>
  /** The tokens of the runs of the cron whose function has begun. */
  readonly begun: ReadonlySet<bigint>
  /** What the processes know of their work with recipes. */
  readonly recipes: recipes.Notes
}

/** How long after the last fault the invariants must hold. */
const recoveryTime = "20 seconds"

/** How long after that nothing may be left: unused leases have expired and clean-up is complete. */
const cleanUpTime = "3 minutes"

/** The prefix of all keys. */
export const prefix = "w/"

/** Simulates the run of a seed. */
export const simulate = (
  world: World,
  profile: FaultProfile,
  options: Options,
  records: RunRecords
): Effect.Effect<End> => {
  const { seed } = options
  const root = world.process(seed, "root")
  const scenario = scenarioOf(seed)

  const body = Effect.gen(function*() {
    const store = yield* options.store
    const direct = yield* store.connect
    const compact = yield* observe(store, direct, records)
    const begun = new Set<bigint>()
    const recipeNotes = recipes.notesOf(scenario.processes)
    const all = yield* Effect.forEach(Array.from({ length: scenario.processes }, (_, i) => `p${i}`), (name, i) => {
      const process = world.process(seed, name)
      return Effect.gen(function*() {
        const faults = yield* KvFaults.make(yield* store.connect, {
          random: {
            seed: seed * 8 + i,
            ...ratesOf(seed, profile),
            ...scenario.clients > 4 ? { delay: 0.9 } : {}
          }
        })
        const backend = options.between?.(faults.backend) ?? faults.backend
        if (i === 0) yield* watchAll(records.clients.client(`${name} watch`)(backend))
        const kept = scenario.temporary
          ? [
            yield* invariants.make(
              records.clients,
              `${name} invariants`,
              backend,
              prefix,
              i % 2 === 0 ? "key/" : "temporary/"
            )
          ]
          : []
        const working = yield* Effect.forkChild(work(records.clients, name, backend, scenario, begun, recipeNotes))
        const cutOff = yield* Effect.forkChild(profile === "slow" ? Effect.never : partitions(faults))
        return { process, faults, kept, working, cutOff }
      }).pipe(process.within)
    })
    const stopping = yield* Effect.forkChild(
      profile === "brutal"
        ? Effect.forEach(all, ({ process }) => stops(process), { concurrency: "unbounded" })
        : Effect.never
    )
    const compacting = yield* Effect.forkChild(profile === "brutal" ? compact.now : Effect.never)
    yield* Effect.forEach(all, ({ working }) => Fiber.await(working))
    yield* Fiber.interruptAll([compacting, stopping])
    yield* Effect.forEach(all, ({ process }) => process.resume)
    yield* Fiber.interruptAll(all.map(({ cutOff }) => cutOff))
    yield* Effect.forEach(all, ({ faults }) => faults.calm)
    yield* Effect.sleep(recoveryTime)
    const kv = yield* Kv.make(direct)
    const kept = all.flatMap(({ kept }) => kept)
    const brokenInvariants = [
      ...(yield* Effect.forEach(kept, (each) => each.check(kv))).flat(),
      ...(yield* transfers.check(kv, prefix)),
      ...(yield* recipes.check(kv, prefix, recipeNotes))
    ]
    yield* Effect.forEach(kept, (each) => each.close)
    yield* Effect.sleep(cleanUpTime)
    for (const [i, { faults }] of all.entries()) {
      for (const { call, description } of yield* faults.injected) {
        records.faults.push(`p${i} ${call === undefined ? "" : `${call.kind} `}${description}`)
      }
    }
    const revision = yield* revisionOf(direct)
    const history = yield* records.clients.history
    return {
      history,
      revision,
      counts: yield* countsOf(kv),
      compactedAt: compact.last(),
      leftBehind: yield* leftBehind(kv, store),
      brokenInvariants,
      begun,
      recipes: recipeNotes
    }
  })
  return Effect.orDie(root.within(Effect.scoped(body)))
}

/** Watches the store itself from the start, and can compact the revisions seen. */
const observe = Effect.fnUntraced(function*(store: Store, direct: KvBackend, records: RunRecords) {
  const watcher = yield* records.store.client("store")(direct).watch({ range: KeyRange.all, previous: true })
  let seen = watcher.revision
  let compacted = 0n
  yield* Effect.forkScoped(Effect.ignore(Effect.forever(Effect.map(watcher.take, (batches) => {
    seen = batches[batches.length - 1]!.revision
  }))))
  const now = Effect.forever(Effect.gen(function*() {
    yield* pause(50, 1500)
    if (seen <= compacted + 3n) return
    compacted = seen - BigInt(yield* Random.nextIntBetween(0, 3))
    yield* Effect.ignore(store.compact(compacted))
  }))
  return { now, last: () => compacted }
})

/** The work of a process, which releases everything at its end. */
const work = (
  recorder: Recorder.Recorder,
  name: string,
  backend: KvBackend,
  scenario: Scenario,
  begun: Set<bigint>,
  recipeNotes: recipes.Notes
) =>
  Effect.scoped(Effect.gen(function*() {
    if (scenario.impatient) yield* Effect.forkScoped(impatientWatch(recorder.client(`${name} impatient`)(backend)))
    yield* Effect.all([
      Workload.run(recorder, Array.from({ length: scenario.clients }, () => backend), {
        operations: scenario.operations,
        keys: scenario.keys,
        prefix,
        locks: false,
        interrupted: 8,
        name: `${name} client `
      }),
      increments(recorder, `${name} locker`, backend, scenario),
      sharedWork(recorder, `${name} sharer`, backend, scenario),
      ticks(recorder, `${name} cron`, backend, scenario, begun),
      scenario.transfers > 0
        ? transfers.work(recorder, `${name} payer`, backend, prefix, scenario.transfers)
        : Effect.void,
      scenario.recipes > 0
        ? recipes.work(recorder, `${name} recipes`, backend, prefix, recipeNotes, scenario)
        : Effect.void,
      scenario.temporary ? temporaryKeys(recorder, `${name} temporary`, backend) : Effect.void
    ], { concurrency: "unbounded" })
  }))

/**
 * Two fibers of a client that contend for the lock. One writes through a service that captured its `Kv`, and acquires the lock
 * as an election every other time.
 */
const increments = (
  recorder: Recorder.Recorder,
  name: string,
  backend: KvBackend,
  { holds, increments: times }: Scenario
) =>
  times === 0
    ? Effect.void
    : Effect.flatMap(Kv.make(recorder.client(name)(backend)), (kv) => {
      const repeatedly = (captured: boolean) => {
        const increment = (elected: boolean) =>
          Workload.increment(recorder, name, kv, {
            prefix,
            ttl: "2 seconds",
            acquireTimeout: "20 seconds",
            meanwhile: holds === 0 ? undefined : pause(0, holds),
            captured,
            elected
          })
        return Effect.forEach(
          Array.from({ length: times }, (_, i) => captured && i % 2 === 0),
          (elected) => Effect.andThen(Effect.ignore(increment(elected)), pause(0, 100))
        )
      }
      return Effect.all([repeatedly(false), repeatedly(true)], { concurrency: "unbounded" })
    })

/** Two fibers of a client that use permits of the semaphore and the read-write lock. */
const sharedWork = (
  recorder: Recorder.Recorder,
  name: string,
  backend: KvBackend,
  { holds, permits, rwLocks }: Scenario
) =>
  permits + rwLocks === 0
    ? Effect.void
    : Effect.flatMap(Kv.make(recorder.client(name)(backend)), (kv) => {
      const options = {
        prefix,
        ttl: "2 seconds",
        acquireTimeout: "20 seconds",
        meanwhile: holds === 0 ? undefined : pause(0, holds)
      } as const
      const usePermits = Effect.flatMap(
        Random.nextIntBetween(1, 3),
        (weight) => Workload.usePermits(recorder, name, kv, weight, options)
      )
      const useRwLock = Effect.flatMap(
        Random.nextIntBetween(0, 2),
        (mode) => Workload.useRwLock(recorder, name, kv, mode === 0 ? "Write" : "Read", options)
      )
      const repeatedly = Effect.all([
        Effect.repeat(Effect.andThen(Effect.ignore(usePermits), pause(0, 100)), { times: permits - 1 }),
        Effect.repeat(Effect.andThen(Effect.ignore(useRwLock), pause(0, 100)), { times: rwLocks - 1 })
      ].filter((_, i) => (i === 0 ? permits : rwLocks) > 0))
      return Effect.all([repeatedly, repeatedly], { concurrency: "unbounded" })
    })

/** The name of the job that the processes run once a second. */
export const job = `${prefix}job`

const everySecond = Cron.parseUnsafe("* * * * * *", "UTC")

/** An instance of a cron whose ticks are not repeated. Each writes before and after a pause. */
const ticks = (
  recorder: Recorder.Recorder,
  name: string,
  backend: KvBackend,
  { holds, ticks }: Scenario,
  begun: Set<bigint>
) =>
  ticks === 0
    ? Effect.void
    : Effect.flatMap(Kv.make(recorder.client(name)(backend)), (kv) => {
      const write = Effect.flatMap(recorder.value(name), (value) => kv.put(`${prefix}report`, value))
      return RunOnce.cron(
        job,
        everySecond,
        ({ token }) => {
          begun.add(token)
          return write.pipe(Effect.andThen(pause(0, holds)), Effect.andThen(write))
        },
        { onCrash: "skip", missed: "all", ttl: "2 seconds" }
      ).pipe(
        Effect.provideService(Kv.Kv, kv),
        Effect.timeoutOption(Duration.seconds(ticks)),
        Effect.ignore
      )
    })

const temporaryKeys = (recorder: Recorder.Recorder, name: string, backend: KvBackend) =>
  Effect.flatMap(
    Kv.make(recorder.client(name)(backend)),
    (kv) =>
      Effect.forEach(["own", "shared"], (which) =>
        Effect.ignore(Effect.scoped(Effect.gen(function*() {
          const key = which === "own" ? `${prefix}temporary/${name}` : `${prefix}temporary/shared`
          yield* pause(0, 300)
          yield* Effect.provideService(
            TempKey.make(key, { value: yield* recorder.value(name), ttl: "2 seconds" }),
            Kv.Kv,
            kv
          )
          yield* pause(0, 3000)
        }))))
  )

/** A watch that is read continuously. After a compaction a new watch continues behind the gap. */
const watchAll = (backend: KvBackend) => Effect.forkScoped(reading(backend, (take) => take))

/** A watch whose takes time out: their events must be delivered by the next take. */
const impatientWatch = (backend: KvBackend) =>
  reading(
    backend,
    (take) =>
      Effect.flatMap(Random.nextIntBetween(0, 400), (millis) => Effect.timeoutOption(take, Duration.millis(millis)))
  )

const reading = (
  backend: KvBackend,
  once: (take: Effect.Effect<unknown, KvError>) => Effect.Effect<unknown, KvError>
): Effect.Effect<never> => {
  const from = (startRevision: bigint | undefined): Effect.Effect<never> => {
    const request: WatchRequest = { range: KeyRange.prefix(prefix), previous: true, startRevision }
    return Effect.catch(
      Effect.scoped(Effect.flatMap(backend.watch(request), ({ take }) => Effect.forever(once(take)))),
      ({ reason }) =>
        Effect.delay(
          Effect.suspend(() =>
            from(reason._tag === "Compacted" ? Option.getOrThrow(reason.compactRevision) + 1n : startRevision)
          ),
          "100 millis"
        )
    )
  }
  return from(undefined)
}

/** Partitions a process from the store repeatedly. */
const partitions = (faults: KvFaults.KvFaults) =>
  Effect.forever(Effect.gen(function*() {
    yield* pause(50, 4000)
    const how = yield* Random.nextIntBetween(0, 2)
    yield* faults.partition({ requests: (["lost", "late", "refused"] as const)[how]! })
    yield* pause(50, 6000)
    yield* faults.heal
  }))

/** Stops and resumes a process repeatedly. */
const stops = (process: Process) =>
  Effect.forever(Effect.gen(function*() {
    yield* pause(50, 3000)
    yield* process.stop
    yield* pause(20, 5000)
    yield* process.resume
  }))

const revisionOf = (backend: KvBackend): Effect.Effect<bigint, KvError> =>
  Effect.map(backend.execute(Op.get("?", { countOnly: true })), ({ revision }) => revision)

const countsOf = (kv: Kv.Kv) =>
  Effect.map(kv.get(`${prefix}${Workload.counter}`), (value) => ({
    [`${prefix}${Workload.counter}`]: Option.match(value, {
      onNone: () => 0,
      onSome: (text) => Number(text.split(" ")[0])
    })
  }))

/** What is left behind. Only two watches may be open: the one that is read continuously and the one of the store. */
const leftBehind = Effect.fnUntraced(function*(kv: Kv.Kv, store: Store) {
  const { leases, watches } = yield* store.statistics
  const temporary = yield* kv.range(KeyRange.prefix(`${prefix}temporary/`), { keysOnly: true })
  const queues = yield* Effect.forEach(
    [Workload.lock, Workload.semaphore, Workload.rwLock],
    (name) => kv.range(KeyRange.prefix(`${prefix}${name}/`), { keysOnly: true })
  )
  return [
    ...leases === 0 ? [] : [`${leases} leases`],
    ...watches === 2 ? [] : [`${watches} open watches instead of 2`],
    ...[...temporary.entries, ...queues.flatMap(({ entries }) => entries.filter(({ key }) => !key.endsWith("/limit")))]
      .map(({ key }) => `the key ${JSON.stringify(key)}`)
  ]
})
