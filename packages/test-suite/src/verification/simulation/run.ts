/**
 * What happens in a run: processes that work on one store, each with a link of its own, and what befalls them.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type { KvError } from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import type { WatchRequest } from "@effect-kv/core/Watch"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as KvFaults from "../../testing/KvFaults.ts"
import type * as History from "../history/History.ts"
import type * as Recorder from "../history/Recorder.ts"
import * as Workload from "../Workload.ts"
import * as lasting from "./invariants.ts"
import type { Options, Store } from "./options.ts"
import { pause } from "./pause.ts"
import { type Plot, plotOf, ratesOf, type Weather } from "./scenario.ts"
import type { Process, World } from "./World.ts"

/** What is written down while it happens, so that it is there though the story does not come to an end. */
export interface Notes {
  /** Of the clients. */
  readonly clients: Recorder.Recorder
  /** Of somebody who watches the store itself, from its first write to its last. */
  readonly store: Recorder.Recorder
  readonly faults: Array<string>
}

/** How a story ended. */
export interface End {
  readonly history: History.History
  /** Everything up to here was there to be read by the watches that are still open. */
  readonly revision: bigint
  readonly counts: Readonly<Record<string, number>>
  readonly compactedAt: bigint
  /** What should not be there any more. */
  readonly leftBehind: ReadonlyArray<string>
  /** What should have lasted, and did not. */
  readonly notLasting: ReadonlyArray<string>
}

/** After so long without faults everything that is to last is there again. */
const untilLasting = "20 seconds"

/** After so long nothing of what was done is under way: leases that nobody renews have ended, what is cleaned up is. */
const untilQuiet = "3 minutes"

const prefix = "w/"

/** Tells it. */
export const tell = (world: World, weather: Weather, options: Options, notes: Notes): Effect.Effect<End> => {
  const { seed } = options
  const root = world.process(seed, "root")
  const plot = plotOf(seed)

  const body = Effect.gen(function*() {
    const store = yield* options.store
    const direct = yield* store.connect
    const compact = yield* observe(store, direct, notes)
    const all = yield* Effect.forEach(Array.from({ length: plot.processes }, (_, i) => `p${i}`), (name, i) => {
      const process = world.process(seed, name)
      return Effect.gen(function*() {
        const faults = yield* KvFaults.make(yield* store.connect, {
          random: {
            seed: seed * 8 + i,
            ...ratesOf(seed, weather),
            ...plot.clients > 4 ? { delay: 0.9 } : {}
          }
        })
        const backend = options.between?.(faults.backend) ?? faults.backend
        if (i === 0) yield* watchAll(notes.clients.client(`${name} watch`)(backend))
        const lasts = plot.temporary
          ? [
            yield* lasting.make(notes.clients, `${name} lasting`, backend, prefix, i % 2 === 0 ? "key/" : "temporary/")
          ]
          : []
        const working = yield* Effect.forkChild(work(notes.clients, name, backend, plot))
        const cutOff = yield* Effect.forkChild(weather === "slow" ? Effect.never : partitions(faults))
        return { process, faults, lasts, working, cutOff }
      }).pipe(process.within)
    })
    const stopping = yield* Effect.forkChild(
      weather === "brutal"
        ? Effect.forEach(all, ({ process }) => stops(process), { concurrency: "unbounded" })
        : Effect.never
    )
    const compacting = yield* Effect.forkChild(weather === "brutal" ? compact.now : Effect.never)
    yield* Effect.forEach(all, ({ working }) => Fiber.await(working))
    yield* Fiber.interruptAll([compacting, stopping])
    yield* Effect.forEach(all, ({ process }) => process.resume)
    yield* Fiber.interruptAll(all.map(({ cutOff }) => cutOff))
    yield* Effect.forEach(all, ({ faults }) => faults.calm)
    yield* Effect.sleep(untilLasting)
    const kv = yield* Kv.make(direct)
    const lasts = all.flatMap(({ lasts }) => lasts)
    const notLasting = (yield* Effect.forEach(lasts, (each) => each.check(kv))).flat()
    yield* Effect.forEach(lasts, (each) => each.close)
    yield* Effect.sleep(untilQuiet)
    for (const [i, { faults }] of all.entries()) {
      for (const { call, description } of yield* faults.injected) {
        notes.faults.push(`p${i} ${call === undefined ? "" : `${call.kind} `}${description}`)
      }
    }
    const revision = yield* revisionOf(direct)
    const history = yield* notes.clients.history
    return {
      history,
      revision,
      counts: yield* countsOf(kv),
      compactedAt: compact.last(),
      leftBehind: yield* leftBehind(kv, store),
      notLasting
    }
  })
  return Effect.orDie(root.within(Effect.scoped(body)))
}

/** Watches the store itself from the beginning, and compacts what has been seen. */
const observe = Effect.fnUntraced(function*(store: Store, direct: KvBackend, notes: Notes) {
  const watcher = yield* notes.store.client("store")(direct).watch({ range: KeyRange.all, previous: true })
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

/** What a process does. It ends in order. */
const work = (recorder: Recorder.Recorder, name: string, backend: KvBackend, plot: Plot) =>
  Effect.scoped(Effect.gen(function*() {
    if (plot.impatient) yield* Effect.forkScoped(impatientWatch(recorder.client(`${name} impatient`)(backend)))
    yield* Effect.all([
      Workload.run(recorder, Array.from({ length: plot.clients }, () => backend), {
        operations: plot.operations,
        keys: plot.keys,
        prefix,
        locks: false,
        interrupted: 8,
        name: `${name} client `
      }),
      increments(recorder, `${name} locker`, backend, plot),
      plot.temporary ? temporaryKeys(recorder, `${name} temporary`, backend) : Effect.void
    ], { concurrency: "unbounded" })
  }))

/** Two fibers of one client contend for the lock with those of others: one writes through a service that captured its `Kv`. */
const increments = (
  recorder: Recorder.Recorder,
  name: string,
  backend: KvBackend,
  { holds, increments: times }: Plot
) =>
  times === 0
    ? Effect.void
    : Effect.flatMap(Kv.make(recorder.client(name)(backend)), (kv) => {
      const repeatedly = (captured: boolean) => {
        const increment = Workload.increment(recorder, name, kv, {
          prefix,
          ttl: "2 seconds",
          acquireTimeout: "20 seconds",
          meanwhile: holds === 0 ? undefined : pause(0, holds),
          captured
        })
        return Effect.forEach(
          Array.from({ length: times }),
          () => Effect.andThen(Effect.ignore(increment), pause(0, 100))
        )
      }
      return Effect.all([repeatedly(false), repeatedly(true)], { concurrency: "unbounded" })
    })

const temporaryKeys = (recorder: Recorder.Recorder, name: string, backend: KvBackend) =>
  Effect.flatMap(
    Kv.make(recorder.client(name)(backend)),
    (kv) =>
      Effect.forEach(["own", "shared"], (which) =>
        Effect.ignore(Effect.scoped(Effect.gen(function*() {
          const key = which === "own" ? `${prefix}temporary/${name}` : `${prefix}temporary/shared`
          yield* pause(0, 300)
          yield* kv.tempKey(key, { value: yield* recorder.value(name), ttl: "2 seconds" })
          yield* pause(0, 3000)
        }))))
  )

/** A watch that is read to the end. Where history is gone it goes on behind the gap, as another watch. */
const watchAll = (backend: KvBackend) => Effect.forkScoped(reading(backend, (take) => take))

/** A watch that is waited for now and then, and never for long: what was not waited for must come with the next. */
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
          Effect.suspend(() => from(reason._tag === "Compacted" ? reason.compactRevision + 1n : startRevision)),
          "100 millis"
        )
    )
  }
  return from(undefined)
}

/** Cuts a process off from the store, again and again. */
const partitions = (faults: KvFaults.KvFaults) =>
  Effect.forever(Effect.gen(function*() {
    yield* pause(50, 4000)
    const how = yield* Random.nextIntBetween(0, 2)
    yield* faults.partition({ requests: (["lost", "late", "refused"] as const)[how]! })
    yield* pause(50, 6000)
    yield* faults.heal
  }))

/** Stops a process, again and again. */
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

/** A watch that reads on, and the one of the store, are all that is to be open. */
const leftBehind = Effect.fnUntraced(function*(kv: Kv.Kv, store: Store) {
  const { leases, watches } = yield* store.statistics
  const temporary = yield* kv.range(KeyRange.prefix(`${prefix}temporary/`), { keysOnly: true })
  const queue = yield* kv.range(KeyRange.prefix(`${prefix}${Workload.lock}/`), { keysOnly: true })
  return [
    ...leases === 0 ? [] : [`${leases} leases`],
    ...watches === 2 ? [] : [`${watches} watches where 2 should be open`],
    ...[...temporary.entries, ...queue.entries].map(({ key }) => `the key ${JSON.stringify(key)}`)
  ]
})
