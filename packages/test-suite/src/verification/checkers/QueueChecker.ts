/**
 * A checker of persisted queues: at every revision each item is in one place, only live workers claim items, and each item
 * is completed at most once, by the worker that has claimed it.
 *
 * It reads nothing but the changes of the store. The keys are those of `KvPersistedQueue`: an item is `QUEUE/item/ID`, and
 * its place is a key under `head/`, `claim/` or `failed/`, until it is `done` or `spent`.
 */
import type { Change } from "../history/Changes.ts"
import type * as Violation_ from "./Violation.ts"

/**
 * The kinds of violations.
 *
 * @since 0.1.0
 */
export type Kind =
  /** An item that has not ended has no place, so no worker will find it, or it was removed. */
  | "ItemLost"
  /** An item has several places, so several workers may claim it, or it has one although it is completed. */
  | "SeveralPlaces"
  /** There is a place of an item that does not exist. */
  | "PlaceWithoutItem"
  | "CompletedTwice"
  | "CompletedWithoutClaim"
  /** A worker whose session had ended has claimed an item. */
  | "ClaimedByDeadWorker"
  /** A claim of a worker whose session lived was taken over. */
  | "TakenFromLiveWorker"
  /** The number of an attempt does not follow the one before. */
  | "WrongAttempt"

/**
 * A violation.
 *
 * @since 0.1.0
 */
export type Violation = Violation_.Violation<Kind>

/**
 * What became of the items.
 *
 * @since 0.1.0
 */
export interface Report {
  readonly violations: ReadonlyArray<Violation>
  /** How many items were offered. */
  readonly offered: number
  readonly completed: number
  readonly failed: number
  /** How often an item was claimed, and how many of these claims were taken over from a worker that was gone. */
  readonly claims: number
  readonly takenOver: number
}

/**
 * Checks the changes of a store from its first revision on. The queues are those under the prefix.
 *
 * @example
 * ```ts
 * import { type Changes, QueueChecker } from "@effect-kv/test-suite/verification"
 *
 * const put = (key: string, modRevision: bigint, value = "0 9 0"): Changes.Change => ({
 *   type: "put",
 *   key: `queues/mails/${key}`,
 *   valueBytes: new TextEncoder().encode(value),
 *   modRevision,
 *   createRevision: modRevision,
 *   version: 1n,
 *   lease: 0n
 * })
 * const offered = [put("item/1", 2n), put("head/ready/1", 2n)]
 * const { offered: count } = QueueChecker.check(offered, { prefix: "queues/" })
 * const fine = count // => 1
 * const lost = QueueChecker.check([put("item/1", 2n)], { prefix: "queues/" }).violations
 * lost.map(({ kind }) => kind) // => ["ItemLost"]
 * ```
 *
 * @since 0.1.0
 */
export const check = (changes: ReadonlyArray<Change>, options: { readonly prefix: string }): Report => {
  const state: State = { items: new Map(), alive: new Set() }
  const report = { violations: [] as Array<Violation>, offered: 0, completed: 0, failed: 0, claims: 0, takenOver: 0 }
  const parts = changes.flatMap((change) => parse(options.prefix, change))
  for (const [revision, group] of Map.groupBy(parts, ({ change }) => change.modRevision)) {
    for (const { change, kind, queue, worker } of group) {
      if (kind !== "worker") continue
      if (change.type === "put") state.alive.add(`${queue}/${worker}`)
      else state.alive.delete(`${queue}/${worker}`)
    }
    const ofItems = group.filter(({ kind }) => kind !== "worker")
    for (const [name, steps] of Map.groupBy(ofItems, ({ id, queue }) => `${queue}/${id}`)) {
      checkStep(
        state,
        name,
        steps,
        report,
        (kind, message) =>
          report.violations.push({ kind, message: `${JSON.stringify(name)} ${message}`, records: [], revision })
      )
    }
  }
  return report
}

interface State {
  readonly items: Map<string, Item>
  /** The workers whose sessions live. */
  readonly alive: Set<string>
}

interface Item {
  readonly isDone: boolean
  readonly places: ReadonlyMap<string, Part>
}

type Counts = { -readonly [K in Exclude<keyof Report, "violations">]: number }

/** A change with the parts of its key. */
interface Part {
  readonly change: Change
  readonly queue: string
  readonly kind: "item" | "due" | "ready" | "claim" | "failed" | "done" | "spent" | "worker"
  readonly worker: string
  readonly id: string
}

const parse = (prefix: string, change: Change): ReadonlyArray<Part> => {
  if (!change.key.startsWith(prefix)) return []
  const [queue = "", first = "", second = "", ...rest] = change.key.slice(prefix.length).split("/")
  const id = rest.at(-1) ?? second
  switch (first) {
    case "item":
    case "failed":
    case "done":
    case "spent":
      return [{ change, queue, kind: first, worker: "", id }]
    case "claim":
      return [{ change, queue, kind: first, worker: second, id }]
    case "head":
      return second === "due" || second === "ready" ? [{ change, queue, kind: second, worker: "", id }] : []
    case "worker":
      return rest[0] === "alive" ? [{ change, queue, kind: first, worker: second, id }] : []
    default:
      return []
  }
}

/** Checks what one revision has made of an item. */
const checkStep = (
  state: State,
  name: string,
  steps: ReadonlyArray<Part>,
  counts: Counts,
  report: (kind: Kind, message: string) => void
): void => {
  const before = state.items.get(name)
  const placesBefore = [...before?.places.values() ?? []]
  const written = steps.find(({ kind }) => kind === "item")?.change
  const isRemoved = written?.type === "delete"
  const isCompleted = written?.type === "put" && before !== undefined
  const places = new Map(isRemoved ? [] : before?.places)
  for (const step of steps) {
    if (step.kind === "item") continue
    if (step.change.type === "delete") places.delete(step.change.key)
    else places.set(step.change.key, step)
  }
  const after = isRemoved || (before === undefined && written === undefined)
    ? undefined
    : { isDone: isCompleted || before?.isDone === true, places }
  if (after === undefined) state.items.delete(name)
  else state.items.set(name, after)

  if (before === undefined && after !== undefined) counts.offered++
  if (isRemoved && before?.isDone === false && !placesBefore.some(({ kind }) => kind === "failed")) {
    report("ItemLost", "was removed before its end")
  }
  if (isCompleted) {
    counts.completed++
    if (before.isDone) report("CompletedTwice", "was completed again")
    if (!placesBefore.some(({ kind }) => kind === "claim")) report("CompletedWithoutClaim", "was completed unclaimed")
  }
  for (const step of steps) {
    if (step.change.type === "delete") continue
    if (step.kind === "failed") counts.failed++
    if (step.kind === "claim") checkClaim(state, step, placesBefore, counts, report)
  }
  checkPlaces(after, [...places.values()], report)
}

const checkClaim = (
  { alive }: State,
  claim: Part,
  before: ReadonlyArray<Part>,
  counts: Counts,
  report: (kind: Kind, message: string) => void
): void => {
  counts.claims++
  if (!alive.has(`${claim.queue}/${claim.worker}`)) {
    report("ClaimedByDeadWorker", `was claimed by ${claim.worker}, whose session had ended`)
  }
  for (const place of before) {
    if (place.kind === "claim") {
      counts.takenOver++
      if (alive.has(`${place.queue}/${place.worker}`)) {
        report("TakenFromLiveWorker", `was taken from ${place.worker} by ${claim.worker}`)
      }
    }
    if (attemptsOf(place) !== attemptsOf(claim) - 1) {
      report("WrongAttempt", `has the attempt ${attemptsOf(claim)} after ${attemptsOf(place)}`)
    }
  }
}

const attemptsOf = ({ change }: Part): number => Number(new TextDecoder().decode(change.valueBytes).split(" ")[0])

const checkPlaces = (
  item: Item | undefined,
  places: ReadonlyArray<Part>,
  report: (kind: Kind, message: string) => void
): void => {
  const open = places.filter(({ kind }) => kind !== "done" && kind !== "spent").map(({ kind }) => kind)
  const show = open.join(" and ")
  if (item === undefined) {
    if (places.length > 0) report("PlaceWithoutItem", "has a place but does not exist")
  } else if (item.isDone) {
    if (open.length > 0) report("SeveralPlaces", `is completed and also ${show}`)
  } else if (open.length === 0) report("ItemLost", "has no place")
  else if (open.length > 1) report("SeveralPlaces", `is ${show}`)
}
