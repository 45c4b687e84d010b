/**
 * A checker of locks: of their holdings and of the fenced effects under them.
 *
 * Tokens increase in the order of the holdings. A holder has released the lock, or has noticed the loss, before the next one
 * acquires it. Each accepted effect on a resource happened exactly once, and its token was that of the holder then.
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
    (holdings) => checkHoldings(holdings, options.lateLossNanos ?? 0n)
  ).flat(),
  ...checkTokens(history, options.changes),
  ...checkOrder(history.effects),
  ...checkCounts(history.effects, options.counts ?? {})
]

/** Checks the holdings of one lock. */
const checkHoldings = (holdings: ReadonlyArray<History.Holding>, lateLoss: bigint): ReadonlyArray<Violation> => {
  const violations: Array<Violation> = []
  const inOrder = holdings.toSorted((a, b) => a.acquired.order - b.acquired.order)
  let largest: History.Holding | undefined
  let open: Array<History.Holding> = []
  for (const holding of inOrder) {
    if (largest !== undefined && holding.token <= largest.token) {
      violations.push({
        kind: "TokenOrder",
        message: `the lock ${
          JSON.stringify(holding.lock)
        } was acquired with token ${holding.token} after token ${largest.token}`,
        records: [largest.id, holding.id]
      })
    }
    for (const other of open) {
      if (!overlaps(other, holding, lateLoss)) continue
      violations.push({
        kind: "OverlappingHolders",
        message: `the lock ${JSON.stringify(holding.lock)} was acquired with token ${holding.token} while ${
          showRecord(other)
        }`,
        records: [other.id, holding.id]
      })
    }
    if (largest === undefined || holding.token > largest.token) largest = holding
    open = [...open.filter((other) => overlaps(other, holding, 0n)), holding]
  }
  return violations
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
  changes: ReadonlyArray<Change> | undefined
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
    const holder = holders.at(effect.lock, effect.revision)
    return holder === effect.token
      ? []
      : violation(
        `at revision ${effect.revision}, when ${holder === undefined ? "no token" : `token ${holder}`} held it`
      )
  })
}

/** Checks that the tokens of effects on one resource under one lock never decrease, in time and by known revisions. */
const checkOrder = (effects: ReadonlyArray<History.FencedEffect>): ReadonlyArray<Violation> => {
  const accepted = effects.filter((effect) => effect.outcome === "Accepted")
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

/** The holders of locks, from the changes of the store: the oldest key under the name of a lock belongs to the holder. */
class Holders {
  readonly #changes: ReadonlyMap<string, ReadonlyArray<readonly [revision: bigint, holder: bigint | undefined]>>

  constructor(changes: ReadonlyArray<Change>, locks: ReadonlySet<string>) {
    const history = new Map<string, Array<readonly [bigint, bigint | undefined]>>()
    const contenders = new Map<string, Map<string, bigint>>()
    for (const change of changes) {
      const lock = change.key.slice(0, change.key.lastIndexOf("/"))
      if (!change.key.includes("/") || !locks.has(lock)) continue
      const queue = contenders.get(lock) ?? new Map<string, bigint>()
      contenders.set(lock, queue)
      if (change.type === "delete") queue.delete(change.key)
      else queue.set(change.key, change.createRevision)
      const holder = Array.from(queue.values()).reduce<bigint | undefined>(
        (least, token) => least === undefined || token < least ? token : least,
        undefined
      )
      const all = history.get(lock) ?? []
      history.set(lock, all)
      all.push([change.modRevision, holder])
    }
    this.#changes = history
  }

  /** The token of the holder when the revision was written. */
  at(lock: string, revision: bigint): bigint | undefined {
    const all = this.#changes.get(lock) ?? []
    let low = 0
    let high = all.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (all[middle]![0] < revision) low = middle + 1
      else high = middle
    }
    return all[low - 1]?.[1]
  }
}
