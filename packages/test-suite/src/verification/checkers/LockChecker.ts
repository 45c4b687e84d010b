/**
 * A checker of locks, semaphores and read-write locks: of their holdings and of the fenced effects under them.
 *
 * Tokens increase in the order of the holdings. A holder has released the lock, or has noticed the loss, before the next one
 * acquires it. Never more permits of a semaphore are held than it has, and no reader holds a lock with a writer. Each
 * accepted effect on a resource happened exactly once, and its token was that of a holder then.
 */
import type { Change } from "../history/Changes.ts"
import type * as History from "../history/History.ts"
import { showRecord } from "../history/show.ts"
import type * as Violation_ from "./Violation.ts"

/**
 * The kinds of violations.
 *
 * @since 0.1.0
 */
export type Kind =
  /** A lock was acquired with a token that is not larger than that of an earlier holder. */
  | "TokenOrder"
  /** A lock was acquired while another client still held it, as far as that client knew. */
  | "OverlappingHolders"
  /** Permits were acquired while too many others were held, as far as their holders knew. */
  | "TooManyPermits"
  /** An effect was accepted with a token with which the lock was not held then. */
  | "EffectWithoutLock"
  /** A resource shows more or fewer effects than were accepted. */
  | "WrongCount"
  /** An effect was accepted after one with a larger token. */
  | "StaleEffect"

/**
 * A violation.
 *
 * @since 0.1.0
 */
export type Violation = Violation_.Violation<Kind>

/**
 * Options of a check.
 *
 * @since 0.1.0
 */
export interface Options {
  /**
   * For how many nanoseconds a former holder may not have noticed its loss although the next client holds the lock.
   * Default: 0, which a client guarantees while its event loop and clock run. Allow more if an operator deletes the key
   * or a process is stopped: then only the fence protects.
   */
  readonly lateLossNanos?: bigint | undefined
  /** For each semaphore of the history, how many permits it has. */
  readonly permits?: Readonly<Record<string, number>> | undefined
  /** For each resource, how many effects it shows at the end: the value of a counter. */
  readonly counts?: Readonly<Record<string, number>> | undefined
  /** All changes of the store, which show the holder at every revision. Locks must have the names of their keys there. */
  readonly changes?: ReadonlyArray<Change> | undefined
}

/**
 * Checks the holdings and fenced effects of a history.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { LockChecker, Recorder } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const recorder = yield* Recorder.make
 *   const kv = yield* Effect.flatMap(store.connect, Kv.make)
 *   yield* recorder.withLock("a", "nightly", () => Effect.void).pipe(Effect.provideService(Kv.Kv, kv))
 *   LockChecker.check(yield* recorder.history) // => []
 * })
 * ```
 *
 * @since 0.1.0
 */
export const check = (
  history: Pick<History.History, "holdings" | "effects">,
  options: Options = {}
): ReadonlyArray<Violation> => [
  ...Array.from(
    Map.groupBy(history.holdings, (holding) => holding.lock).values(),
    (holdings) => checkHoldings(holdings, options.lateLossNanos ?? 0n, options.permits ?? {})
  ).flat(),
  ...checkTokens(history, options.changes, options.permits ?? {}),
  ...checkOrder(history),
  ...checkCounts(history.effects, options.counts ?? {})
]

/** Whether two holdings of one lock exclude each other: all but two readers, and two holders of permits. */
const exclude = (a: History.Share | undefined, b: History.Share | undefined): boolean =>
  a?._tag !== "Permits" && b?._tag !== "Permits" && (a?._tag !== "Read" || b?._tag !== "Read")

/** Checks the holdings of one lock. */
const checkHoldings = (
  holdings: ReadonlyArray<History.Holding>,
  lateLoss: bigint,
  permits: Readonly<Record<string, number>>
): ReadonlyArray<Violation> => {
  const violations: Array<Violation> = []
  const inOrder = holdings.toSorted((a, b) => a.acquired.order - b.acquired.order)
  /** The holdings with the largest token of all, and of all that are not readers. */
  let largestOfAll: History.Holding | undefined
  let largestExclusive: History.Holding | undefined
  let open: Array<History.Holding> = []
  for (const holding of inOrder) {
    const largest = holding.share?._tag === "Permits"
      ? undefined
      : holding.share?._tag === "Read"
      ? largestExclusive
      : largestOfAll
    if (largest !== undefined && holding.token <= largest.token) {
      violations.push({
        kind: "TokenOrder",
        message: `the lock ${
          JSON.stringify(holding.lock)
        } was acquired with token ${holding.token} after token ${largest.token}`,
        records: [largest.id, holding.id]
      })
    }
    const beside = open.filter((other) => overlaps(other, holding, lateLoss))
    violations.push(...checkPermits(holding, beside, permits))
    for (const other of beside) {
      if (!exclude(other.share, holding.share)) continue
      violations.push({
        kind: "OverlappingHolders",
        message: `the lock ${JSON.stringify(holding.lock)} was acquired with token ${holding.token} while ${
          showRecord(other)
        }`,
        records: [other.id, holding.id]
      })
    }
    if (largestOfAll === undefined || holding.token > largestOfAll.token) largestOfAll = holding
    if (holding.share?._tag !== "Read" && (largestExclusive === undefined || holding.token > largestExclusive.token)) {
      largestExclusive = holding
    }
    open = [...open.filter((other) => overlaps(other, holding, 0n)), holding]
  }
  return violations
}

/** Checks that the permits that were acquired, and those held beside them, are not more than the semaphore has. */
const checkPermits = (
  holding: History.Holding,
  beside: ReadonlyArray<History.Holding>,
  permits: Readonly<Record<string, number>>
): ReadonlyArray<Violation> => {
  const all = permits[holding.lock]
  if (all === undefined || holding.share?._tag !== "Permits") return []
  const held = [...beside, holding].reduce((sum, { share }) => sum + (share?._tag === "Permits" ? share.permits : 0), 0)
  return held <= all ? [] : [{
    kind: "TooManyPermits",
    message: `${held} of the ${all} permits of ${JSON.stringify(holding.lock)} were held when token ${holding.token} ` +
      `acquired ${holding.share.permits} of them`,
    records: [...beside.map(({ id }) => id), holding.id]
  }]
}

/** Whether the earlier holding overlaps the later one for longer than allowed. */
const overlaps = (first: History.Holding, second: History.Holding, lateLoss: bigint): boolean => {
  if (first.ended === undefined) return true
  if (first.ended.at.order < second.acquired.order) return false
  return first.ended.how === "Released" || first.ended.at.nanos - second.acquired.nanos > lateLoss || lateLoss === 0n
}

/** Checks that the lock was held with the token of an accepted effect, by the changes of the store if they are known. */
const checkTokens = (
  history: Pick<History.History, "holdings" | "effects">,
  changes: ReadonlyArray<Change> | undefined,
  permits: Readonly<Record<string, number>>
): ReadonlyArray<Violation> => {
  const holders = changes === undefined ? undefined : new Holders(changes, locksOf(history.effects))
  const tokenOf = (of: { readonly lock: string; readonly token: bigint }) => JSON.stringify([of.lock, `${of.token}`])
  const holdings = new Map(history.holdings.map((holding) => [tokenOf(holding), holding]))
  return history.effects.flatMap((effect): ReadonlyArray<Violation> => {
    if (effect.outcome !== "Accepted") return []
    const violation = (message: string): ReadonlyArray<Violation> => [
      {
        kind: "EffectWithoutLock",
        message: `an effect on ${JSON.stringify(effect.resource)} was accepted with token ${effect.token} of ` +
          `${JSON.stringify(effect.lock)}, ${message}`,
        records: [effect.id],
        ...(effect.revision === undefined ? {} : { revision: effect.revision })
      }
    ]
    const holding = holdings.get(tokenOf(effect))
    if (holding === undefined) return violation("which no holder had")
    if (effect.invoked.order < holding.acquired.order) return violation("before the lock was acquired with it")
    if (holders === undefined || effect.revision === undefined) return []
    const queue = holders.at(effect.lock, effect.revision)
    if (isAdmitted(queue, effect.token, holding.share, permits[effect.lock])) return []
    const tokens = queue.map(({ token }) => token)
    return violation(
      `at revision ${effect.revision}, when its queue was ${tokens.length === 0 ? "empty" : tokens.join(", ")}`
    )
  })
}

/** Whether the rule of the queue admits the contender with that token. */
const isAdmitted = (
  queue: ReadonlyArray<Contender>,
  token: bigint,
  share: History.Share | undefined,
  permits: number | undefined
): boolean => {
  const own = queue.find((contender) => contender.token === token)
  if (own === undefined) return false
  const ahead = queue.filter((contender) => contender.token < token)
  switch (share?._tag) {
    case "Permits":
      return permits === undefined || ahead.reduce((sum, { weight }) => sum + weight, own.weight) <= permits
    case "Read":
      return ahead.every(({ mode }) => mode === "read")
    default:
      return ahead.length === 0
  }
}

/**
 * Checks that the tokens of effects on one resource under one lock never decrease, in time and by known revisions. Holders
 * that share the lock may write in any order.
 */
const checkOrder = ({ effects, holdings }: Pick<History.History, "holdings" | "effects">): ReadonlyArray<Violation> => {
  const shared = new Set(
    holdings.flatMap(({ lock, share }) => share === undefined || share._tag === "Write" ? [] : [lock])
  )
  const accepted = effects.filter((effect) => effect.outcome === "Accepted" && !shared.has(effect.lock))
  const groups = Map.groupBy(accepted, ({ lock, resource }) => JSON.stringify([lock, resource]))
  return Array.from(groups.values()).flatMap((group) => {
    const stale = new Map([...staleInTime(group), ...staleByRevision(group)])
    return Array.from(stale, ([effect, earlier]): Violation => ({
      kind: "StaleEffect",
      message: `${showRecord(effect)} was accepted after ${showRecord(earlier)}`,
      records: [earlier.id, effect.id]
    }))
  })
}

/** The first effect that follows one with a larger token, and that one. */
type Stale = readonly [effect: History.FencedEffect, earlier: History.FencedEffect]

const staleInTime = (group: ReadonlyArray<History.FencedEffect>): ReadonlyArray<Stale> => {
  const stale: Array<Stale> = []
  const done = group.toSorted((a, b) => (a.completed?.order ?? 0) - (b.completed?.order ?? 0))
  const begun = group.toSorted((a, b) => a.invoked.order - b.invoked.order)
  let next = 0
  let largest: History.FencedEffect | undefined
  for (const effect of begun) {
    for (; next < done.length && (done[next]!.completed?.order ?? 0) < effect.invoked.order; next++) {
      if (largest === undefined || done[next]!.token > largest.token) largest = done[next]!
    }
    if (largest !== undefined && effect.token < largest.token) stale.push([effect, largest])
  }
  return stale
}

const staleByRevision = (group: ReadonlyArray<History.FencedEffect>): ReadonlyArray<Stale> => {
  const stale: Array<Stale> = []
  const known = group.flatMap((effect) => effect.revision === undefined ? [] : [[effect.revision, effect] as const])
  let largest: History.FencedEffect | undefined
  for (const [, effect] of known.sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0)) {
    if (largest === undefined || effect.token >= largest.token) largest = effect
    else if (effect.revision !== largest.revision) stale.push([effect, largest])
  }
  return stale
}

const checkCounts = (
  effects: ReadonlyArray<History.FencedEffect>,
  counts: Readonly<Record<string, number>>
): ReadonlyArray<Violation> =>
  Object.entries(counts).flatMap(([resource, count]): ReadonlyArray<Violation> => {
    const done = effects.filter((effect) => effect.resource === resource)
    const accepted = done.filter((effect) => effect.outcome === "Accepted")
    const unknown = done.filter((effect) => effect.outcome === "Unknown")
    if (count >= accepted.length && count <= accepted.length + unknown.length) return []
    return [{
      kind: "WrongCount",
      message:
        `${JSON.stringify(resource)} shows ${count} effects; ${accepted.length} were accepted, and the outcome of ` +
        `${unknown.length} is unknown`,
      records: []
    }]
  })

const locksOf = (effects: ReadonlyArray<History.FencedEffect>): ReadonlySet<string> =>
  new Set(effects.map((effect) => effect.lock))

/** A key in the queue of a lock. */
interface Contender {
  readonly token: bigint
  /** How many permits it holds or waits for. */
  readonly weight: number
  /** The folder of the key under the name of a read-write lock. */
  readonly mode: string | undefined
}

/** The key in a folder that is not a contender's. */
const recordOf = (folder: string | undefined): string | undefined =>
  folder === "permits" ? "limit" : folder === "once" ? "last" : undefined

/**
 * The queues of locks at every revision, from the changes of the store. A contender is a key under the name of a lock:
 * directly, or under `permits/`, `read/`, `write/` or, for a run of `RunOnce`, `once/`.
 */
class Holders {
  readonly #queues: ReadonlyMap<string, ReadonlyArray<readonly [revision: bigint, queue: ReadonlyArray<Contender>]>>

  constructor(changes: ReadonlyArray<Change>, locks: ReadonlySet<string>) {
    const history = new Map<string, Array<readonly [bigint, ReadonlyArray<Contender>]>>()
    const queues = new Map<string, Map<string, Contender>>()
    for (const change of changes) {
      const [, folder, mode] = /^(.*?)(?:\/(permits|read|write|once))?\/[^/]*$/s.exec(change.key) ?? []
      const lock = folder === undefined ? undefined : locks.has(folder) ? folder : undefined
      if (lock === undefined || recordOf(mode) === change.key.slice(change.key.lastIndexOf("/") + 1)) continue
      const queue = queues.get(lock) ?? new Map<string, Contender>()
      queues.set(lock, queue)
      if (change.type === "delete") queue.delete(change.key)
      else {
        const weight = mode === "permits" ? Number.parseInt(new TextDecoder().decode(change.valueBytes), 10) : 1
        queue.set(change.key, { token: change.createRevision, weight, mode })
      }
      const all = history.get(lock) ?? []
      history.set(lock, all)
      all.push([change.modRevision, [...queue.values()]])
    }
    this.#queues = history
  }

  /** The queue of the lock when the revision was written. */
  at(lock: string, revision: bigint): ReadonlyArray<Contender> {
    const all = this.#queues.get(lock) ?? []
    let low = 0
    let high = all.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (all[middle]![0] < revision) low = middle + 1
      else high = middle
    }
    return all[low - 1]?.[1] ?? []
  }
}
