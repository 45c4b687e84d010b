/**
 * The views of a round's clients: sampled during the round and compared with the store's history afterwards.
 */
import type * as KvCollection from "@effect-kv/core/KvCollection"
import type * as KvConfig from "@effect-kv/core/KvConfig"
import type * as KvError from "@effect-kv/core/KvError"
import type * as Members from "@effect-kv/core/Members"
import type * as RangeView from "@effect-kv/core/RangeView"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type { Change } from "./Store.ts"
import * as collections from "./work/collections.ts"
import * as members from "./work/members.ts"
import * as settings from "./work/settings.ts"

/** A view, of keys or of members. */
interface View<out Snapshot> {
  readonly snapshot: Effect.Effect<Snapshot, KvError.KvError>
}

/** The snapshot of a view once it has reached the revision, or its last one if it does not reach it in time. */
export const snapshotAt = <Snapshot extends { readonly revision: bigint }>(
  view: View<Snapshot>,
  revision: bigint,
  within: Duration.Input
): Effect.Effect<Snapshot, KvError.KvError> =>
  Effect.timeoutOrElse(
    Effect.repeat(view.snapshot, {
      until: (snapshot) => snapshot.revision >= revision,
      schedule: Schedule.spaced("20 millis")
    }).pipe(Effect.andThen(view.snapshot)),
    { duration: within, orElse: () => view.snapshot }
  )

/** Samples a view until it is interrupted or its client closes. */
export const look = <Snapshot>(view: View<Snapshot>, seen: Array<Snapshot>): Effect.Effect<never, KvError.KvError> =>
  Effect.forever(
    Effect.flatMap(view.snapshot, (snapshot) => {
      if (seen.at(-1) !== snapshot) seen.push(snapshot)
      return Effect.sleep("250 millis")
    })
  ).pipe(Effect.catchReason("KvError", "Closed", () => Effect.never))

/** The same for live settings. */
export const lookAtSettings = (
  { state }: KvConfig.Live<settings.Settings>,
  seen: Array<KvConfig.State<settings.Settings>>
): Effect.Effect<never> =>
  Effect.forever(
    Effect.flatMap(state, (state) => {
      if (seen.at(-1) !== state) seen.push(state)
      return Effect.sleep("250 millis")
    })
  )

/**
 * A view shows what the store held at its revision and never goes back. Reports the first snapshot that violates this.
 */
export const wrongView = (
  client: string,
  seen: ReadonlyArray<RangeView.Snapshot>,
  changes: ReadonlyArray<Change>
): ReadonlyArray<string> => {
  const snapshots = seen.map(({ entries, revision }) => ({
    revision,
    shown: new Map(Array.from(entries, ([key, entry]) => [key, `${entry.lossyText} at ${entry.modRevision}`]))
  }))
  const ofView = changes.filter(({ key }) => /^[^/]*\/txn\//.test(key))
  return wrong(`the view of ${client}`, snapshots, ofView, ({ modRevision, value }) => `${value} at ${modRevision}`)
}

/** The same for the members of a group. */
export const wrongMembers = (
  client: string,
  seen: ReadonlyArray<Members.Snapshot<string>>,
  changes: ReadonlyArray<Change>,
  group: string
): ReadonlyArray<string> => {
  const snapshots = seen.map(({ members, revision }) => ({
    revision,
    shown: new Map(
      Array.from(members, ([id, value]) => [`${group}/${id}`, Result.getOrElse(value, ({ message }) => message)])
    )
  }))
  const ofGroup = changes.filter(({ key }) => key.startsWith(`${group}/`))
  return wrong(`the view of members of ${client}`, snapshots, ofGroup, ({ value }) => members.valueOf(value))
}

/** The same for typed values. A value that does not decode is shown as such, and hides no other. */
export const wrongUsers = (
  client: string,
  seen: ReadonlyArray<KvCollection.Snapshot<string, collections.User>>,
  changes: ReadonlyArray<Change>,
  prefix: string
): ReadonlyArray<string> => {
  const snapshots = seen.map(({ items, revision }) => ({
    revision,
    shown: new Map(
      items.map((item) =>
        Result.isSuccess(item)
          ? [prefix + item.success.key, collections.shownOf(item.success.value)]
          : [item.failure.key, collections.undecodable]
      )
    )
  }))
  const ofCollection = changes.filter(({ key }) => key.startsWith(prefix))
  return wrong(
    `the view of users of ${client}`,
    snapshots,
    ofCollection,
    ({ value }) => collections.shownOfValue(value)
  )
}

/**
 * Live settings are those that the store held at their revision, which were good, and never go back. If newer ones were
 * rejected, the store held bad ones.
 */
export const wrongSettings = (
  client: string,
  seen: ReadonlyArray<KvConfig.State<settings.Settings>>,
  changes: ReadonlyArray<Change>,
  prefix: string
): ReadonlyArray<string> => {
  const shown = (values: ReadonlyMap<string, string>): string => {
    const [a, b] = ["a", "b"].map((name) => values.get(prefix + name))
    return a !== undefined && b !== undefined && settings.isGood(a) && settings.isGood(b) ? `${a}, ${b}` : "rejected"
  }
  const ofSettings = changes.filter(({ key }) => key.startsWith(prefix))
  const heldAt = (revision: bigint): string => {
    const held = new Map<string, string>()
    for (const { key, modRevision, type, value } of ofSettings) {
      if (modRevision > revision) break
      if (type === "put") held.set(key, value)
      else held.delete(key)
    }
    return shown(held)
  }
  let last = 0n
  for (const { rejected, revision, value } of seen) {
    const newest = Option.match(rejected, { onNone: () => revision, onSome: ({ revision }) => revision })
    if (newest < last) return [`the settings of ${client} went back from revision ${last} to ${newest}`]
    last = newest
    const expected = heldAt(revision)
    if (value.join(", ") !== expected) {
      return [`the settings of ${client} at revision ${revision} are ${value.join(", ")} instead of ${expected}`]
    }
    const held = heldAt(newest)
    if (Option.isSome(rejected) && held !== "rejected") {
      return [`the settings of ${client} at revision ${newest} are rejected, although they are ${held}`]
    }
  }
  return []
}

/** Compares what a view has shown at some revisions with what the store held. */
const wrong = (
  what: string,
  seen: ReadonlyArray<{ readonly revision: bigint; readonly shown: ReadonlyMap<string, string> }>,
  changes: ReadonlyArray<Change>,
  show: (change: Change) => string
): ReadonlyArray<string> => {
  const held = new Map<string, string>()
  let next = 0
  let last = 0n
  for (const { revision, shown } of seen) {
    if (revision < last) return [`${what} went back from revision ${last} to ${revision}`]
    last = revision
    for (; next < changes.length && changes[next]!.modRevision <= revision; next++) {
      const change = changes[next]!
      if (change.type === "put") held.set(change.key, show(change))
      else held.delete(change.key)
    }
    const differs = [...new Set([...held.keys(), ...shown.keys()])].filter((key) => held.get(key) !== shown.get(key))
    if (differs.length > 0) return [`${what} at revision ${revision} is wrong in ${differs.join(", ")}`]
  }
  return []
}

/** Reports a view that has not reached the last change. */
export const isBehind = (
  client: string,
  seen: ReadonlyArray<RangeView.Snapshot>,
  changes: ReadonlyArray<Change>
): ReadonlyArray<string> => {
  const end = changes.findLast(({ key }) => /^[^/]*\/txn\//.test(key))?.modRevision ?? 0n
  const last = seen.at(-1)?.revision ?? 0n
  return last >= end ? [] : [`the view of ${client} is at revision ${last} of ${end}`]
}
