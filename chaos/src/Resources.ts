/**
 * Resources that are left when everything is closed: on the servers, on the links, and in this process.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Sockets from "./Sockets.ts"
import type { Testbed } from "./Testbed.ts"

/** Counted at one moment. */
export interface Resources {
  readonly leases: number
  /** What serves the watches on the servers: see `Store.watches`. */
  readonly watches: number
  /** Keys that should not have outlived their owners: of locks, of leases, and temporary keys. */
  readonly keys: ReadonlyArray<string>
  /** What else the clients have left on the servers: see `Store.left`. */
  readonly onServers: ReadonlyArray<string>
  /** Client connections that the proxies have open. */
  readonly sockets: number
  /** The connections that are left, with what is known of each. */
  readonly connections: ReadonlyArray<string>
  /** Whether every one of them has begun to close. */
  readonly areClosing: boolean
  /** Fibers that run for the clients. */
  readonly fibers: number
  /** Timers that keep this process alive. */
  readonly timers: number
}

/** Counts the running fibers of an effect, including those that it forks. */
export interface FiberCount {
  readonly running: () => number
  readonly within: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

export const countFibers = (): FiberCount => {
  let running = 0
  const service: Metric.FiberRuntimeMetricsService = {
    recordFiberStart: () => void running++,
    recordFiberEnd: () => void running--
  }
  return {
    running: () => running,
    within: (effect) => Effect.provideContext(effect, Context.make(Metric.FiberRuntimeMetrics, service))
  }
}

const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length

/** Whether a key belongs to a lock or a lease, or is a temporary key, and so must not outlive its owner. */
export const isOwned = (key: string): boolean =>
  /(?:(?:lock|election|singleton|semaphore|slot)\/[^/]+\/|temporary\/|members\/|leased\/|\/counter\/live\/|\/barrier\/\d+\/(?:p:|left)|\/once\/run$)/
    .test(key) &&
  !key.endsWith("/permits/limit")

/** Counts everything now. Fails if a server does not respond. */
export const count = Effect.fnUntraced(function*(testbed: Testbed, fibers: FiberCount) {
  const { store } = testbed
  const leases = yield* store.leases
  const keys = (yield* store.keys("")).filter(isOwned)
  const watches = yield* store.watches
  const onServers = yield* store.left
  const connections = yield* connectionsLeft(testbed)
  const stats = yield* Effect.forEach(testbed.links.flat(), (link) => link.stats)
  return {
    leases: leases.length,
    watches,
    keys,
    onServers,
    sockets: sum(stats.map((stats) => stats.live)),
    ...connections,
    fibers: fibers.running(),
    timers: timers()
  } satisfies Resources
})

const connectionsLeft = Effect.fnUntraced(function*({ links, sockets }: Testbed) {
  const now = yield* Clock.monotonicTimeNanos
  const names = new Map(
    links.flatMap((ofClient, c) => ofClient.map(({ port }, m) => [port, `c${c + 1} to server ${m + 1}`] as const))
  )
  const left = sockets.left(new Set(names.keys()))
  return {
    connections: left.map((connection) => Sockets.format(connection, names.get(connection.proxyPort)!, now)),
    areClosing: left.every(Sockets.isClosing)
  }
})

const sum = (numbers: ReadonlyArray<number>): number => numbers.reduce((a, b) => a + b, 0)

/** What existed before the clients, and so may remain. */
export type Limits = Pick<Resources, "watches" | "timers">

/** The kinds of resources. */
export const parts = ["leases", "watches", "keys", "onServers", "sockets", "fibers", "timers"] as const

type Part = typeof parts[number]

/** What exceeds the limits, as messages. */
export const excess = (
  resources: Resources,
  limits: Limits,
  of: ReadonlyArray<Part> = parts
): ReadonlyArray<string> =>
  of.flatMap((part) => {
    const count = countOf(resources, part)
    const limit = part === "watches" || part === "timers" ? limits[part] : 0
    if (count <= limit) return []
    return [`${count} ${names[part] ?? part}${details(resources, part)}${limit > 0 ? `, ${limit} before the run` : ""}`]
  })

/** The first few of what is left, if they are known. */
const details = ({ connections, keys, onServers }: Resources, part: Part): string => {
  const which = part === "keys" ? keys : part === "onServers" ? onServers : part === "sockets" ? connections : []
  return which.length === 0 ? "" : ` (${which.slice(0, 3).join("; ")})`
}

const names: Partial<Record<Part, string>> = { onServers: "others on the servers" }

const countOf = (resources: Resources, part: Part): number =>
  part === "keys" || part === "onServers" ? resources[part].length : resources[part]

/** All counts in one line. */
export const format = (resources: Resources): string =>
  parts.map((part) => `${names[part] ?? part} ${countOf(resources, part)}`).join(", ")

/** How often resources are counted until they are within the limits, a quarter of a second apart. */
const counts = 60

/** How much more often if all that is left are connections that are closing. */
const countsWhileClosing = 60

/**
 * Counts until nothing is over the limits, a bounded number of times. Leases that are left expire only after their time to
 * live, servers notice a closed connection when they write to it, and the last bytes of a connection may still be in flight.
 */
export const whenSettled = Effect.fnUntraced(function*(
  testbed: Testbed,
  fibers: FiberCount,
  limits: Limits,
  of: ReadonlyArray<Part> = parts
) {
  let resources = yield* count(testbed, fibers)
  for (let i = 1; !isSettled(resources, limits, of) && mayCountAgain(resources, limits, of, i); i++) {
    yield* Effect.sleep("250 millis")
    resources = yield* count(testbed, fibers)
  }
  return resources
})

const isSettled = (resources: Resources, limits: Limits, of: ReadonlyArray<Part>): boolean =>
  excess(resources, limits, of).length === 0

/** Whether what is left may still disappear after so many counts. */
export const mayCountAgain = (
  resources: Resources,
  limits: Limits,
  of: ReadonlyArray<Part>,
  counted: number
): boolean =>
  counted <= counts ||
  counted <= counts + countsWhileClosing && resources.areClosing &&
    isSettled(resources, limits, of.filter((part) => part !== "sockets"))
