/**
 * A checker of queues by the history of their store: every item is in exactly one place at each revision, is claimed by at
 * most one live worker, and is completed at most once, by a worker that holds its claim.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import type * as Watch from "@effect-kv/core/Watch"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"

/** All changes under a prefix, from the store's first revision up to now. */
export const historyOf = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  prefix: string
): Effect.fn.Return<ReadonlyArray<Watch.Revision>, KvError> {
  const { revision } = yield* kv.put(`${prefix}end-of-history`, "")
  const revisions = yield* kv.watchRevisions(KeyRange.prefix(prefix), { startRevision: 2n }).pipe(
    Stream.takeUntil((one) => one.revision >= revision),
    Stream.runCollect
  )
  return revisions.filter((one) => one.revision < revision)
})

export interface Violation {
  readonly revision: bigint
  readonly item: string
  readonly what: string
}

export interface Summary {
  readonly violations: ReadonlyArray<Violation>
  /** How many items were offered, completed and failed. */
  readonly offered: number
  readonly completed: number
  readonly failed: number
  /** How many claims were made. */
  readonly claims: number
  /** How many claims were taken over from a worker that was gone. */
  readonly takenOver: number
}

interface Item {
  isDone: boolean
  /** The keys of its places. */
  readonly places: Map<string, { readonly kind: string; readonly worker: string; readonly attempts: number }>
}

interface Parsed {
  readonly queue: string
  readonly kind: string
  readonly worker: string
  readonly id: string
}

/** The parts of a key: `undefined` for those of workers, which are no items. */
const parse = (prefix: string, key: string): Parsed | undefined => {
  const [queue = "", kind = "", ...rest] = key.slice(prefix.length).split("/")
  if (kind === "item" || kind === "claim" || kind === "done" || kind === "spent" || kind === "failed") {
    return { queue, kind, worker: kind === "claim" ? rest[0]! : "", id: rest.at(-1)! }
  }
  return kind === "head" ? { queue, kind: rest[0]!, worker: "", id: rest.at(-1)! } : undefined
}

const isOpen = (kind: string): boolean => kind === "ready" || kind === "due" || kind === "claim" || kind === "failed"

export const check = (prefix: string, revisions: ReadonlyArray<Watch.Revision>): Summary => {
  const items = new Map<string, Item>()
  const alive = new Set<string>()
  const violations: Array<Violation> = []
  const summary = { offered: 0, completed: 0, failed: 0, claims: 0, takenOver: 0 }
  for (const { events, revision } of revisions) {
    const touched = new Map<string, { readonly before: Item | undefined; readonly events: Array<Watch.Event> }>()
    for (const event of events) {
      if (/\/worker\/[^/]+\/alive$/.test(event.key)) {
        if (event._tag === "Put") alive.add(event.key)
        else alive.delete(event.key)
      }
      const parsed = parse(prefix, event.key)
      if (parsed === undefined) continue
      const name = `${parsed.queue}/${parsed.id}`
      const before = items.get(name)
      const known = touched.get(name) ?? {
        before: before === undefined ? undefined : { isDone: before.isDone, places: new Map(before.places) },
        events: []
      }
      known.events.push(event)
      touched.set(name, known)
    }
    for (const [name, { before, events }] of touched) {
      const report = (what: string) => violations.push({ revision, item: name, what })
      let item = items.get(name)
      for (const event of events) {
        if (parse(prefix, event.key)!.kind !== "item") continue
        if (event._tag === "Delete") {
          items.delete(name)
          if (
            item !== undefined && !item.isDone && ![...item.places.values()].some((place) => place.kind === "failed")
          ) {
            report("was removed before its end")
          }
          item = undefined
        } else if (item === undefined) {
          item = { isDone: false, places: new Map() }
          items.set(name, item)
          summary.offered++
        } else {
          if (item.isDone) report("was completed twice")
          if (![...before?.places.values() ?? []].some((place) => place.kind === "claim")) {
            report("was completed without a claim")
          }
          item.isDone = true
          summary.completed++
        }
      }
      for (const event of events) {
        const { kind, worker } = parse(prefix, event.key)!
        if (kind === "item") continue
        if (event._tag === "Delete") {
          item?.places.delete(event.key)
          continue
        }
        if (item === undefined) {
          report(`has the place ${kind} but does not exist`)
          continue
        }
        const attempts = Number(event.entry.lossyText.split(" ")[0])
        item.places.set(event.key, { kind, worker, attempts })
        if (kind === "failed") summary.failed++
        if (kind !== "claim") continue
        summary.claims++
        const aliveOf = (of: string) => `${event.key.slice(0, event.key.indexOf("/claim/"))}/worker/${of}/alive`
        if (!alive.has(aliveOf(worker))) report("was claimed by a worker that is not alive")
        for (const place of before?.places.values() ?? []) {
          if (place.kind === "claim") {
            summary.takenOver++
            if (alive.has(aliveOf(place.worker))) report("was taken from a live worker")
          }
          if (place.attempts !== attempts - 1) report(`has attempt ${attempts} after attempt ${place.attempts}`)
        }
      }
      const kinds = [...item?.places.values() ?? []].map((place) => place.kind)
      const open = kinds.filter(isOpen)
      if (item === undefined) {
        if (kinds.length > 0) report(`does not exist but is ${kinds.join(" and ")}`)
      } else if (item.isDone) {
        if (open.length > 0) report(`is completed but also ${open.join(" and ")}`)
      } else if (open.length === 0) report("is lost: it has no place")
      else if (open.length > 1) report(`has several places: ${open.join(" and ")}`)
    }
  }
  return { ...summary, violations }
}
