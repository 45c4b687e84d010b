/**
 * A listing: one way to look at an inventory, as a table for people and as JSON for scripts.
 */
import type * as Inventory from "@effect-kv/core/Inventory"
import * as Option from "effect/Option"
import { printable } from "./cells.ts"
import * as leaseTimes from "./leaseTimes.ts"
import type { Column, Row } from "./table.ts"
import { ago, type Since } from "./times.ts"

/** What is known beside the inventory. */
export interface Context {
  /** The time in milliseconds. */
  readonly now: number
  readonly leases: leaseTimes.LeaseTimes
  readonly since: (contender: Inventory.Contender) => Since | undefined
}

export interface Listing {
  /** What it lists, such as `locks`. */
  readonly name: string
  readonly columns: ReadonlyArray<Column>
  readonly rows: (snapshot: Inventory.Snapshot, context: Context) => ReadonlyArray<Row>
  readonly json: (snapshot: Inventory.Snapshot, context: Context) => ReadonlyArray<object>
  /** The leases whose times it shows, the first ones first. */
  readonly leases: (snapshot: Inventory.Snapshot) => ReadonlyArray<bigint>
}

/** The leases of the queues' contenders: first those of the holders. */
export const leasesOf = (queues: ReadonlyArray<Inventory.Queue>): ReadonlyArray<bigint> => {
  const contenders = queues.flatMap((queue) => queue.contenders)
  return [true, false].flatMap((isHolder) =>
    contenders.flatMap((each) => each.isHolder === isHolder ? Option.toArray(each.lease) : [])
  )
}

/** The time that a contender's lease has left. Without a lease it stays until someone deletes it. */
export const ttlOf = ({ lease }: Pick<Inventory.Contender, "lease">, { leases, now }: Context): string =>
  Option.match(lease, {
    onNone: () => "no lease",
    onSome: (id) => leaseTimes.text(leases.get(id), now)
  })

/** Since when a contender holds or waits. */
export const sinceOf = (contender: Inventory.Contender, { now, since }: Context): string => ago(since(contender), now)

/** What contenders say about themselves. A key without a lease says nothing, so it is named. */
export const describe = (
  { description, key, lease }: Pick<Inventory.Contender, "description" | "key" | "lease">
): string => Option.isNone(lease) ? `(the key ${printable(key)} has no lease)` : printable(description)

/** A contender for scripts. */
export const contenderToJson = (contender: Inventory.Contender, { leases, now, since }: Context) => {
  const lease = Option.getOrUndefined(contender.lease)
  const known = since(contender)
  return {
    key: contender.key,
    token: contender.token,
    lease: lease?.toString(16) ?? null,
    ...leaseTimes.fields(lease === undefined ? undefined : leases.get(lease), now),
    since: known === undefined || known.isAtLeast ? null : new Date(known.millis).toISOString()
  }
}
