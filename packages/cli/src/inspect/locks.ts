/**
 * The listing of locks, read-write locks and semaphores: who holds, who waits. An election is a lock to the store.
 */
import type * as Inventory from "@effect-kv/core/Inventory"
import * as Option from "effect/Option"
import { printable } from "./cells.ts"
import * as listing from "./listing.ts"

const kinds: Readonly<Record<Inventory.Queue["kind"], string>> = {
  Lock: "lock",
  RwLock: "rwlock",
  Semaphore: "semaphore"
}

const kindOf = ({ kind, permits }: Inventory.Queue): string =>
  kind !== "Semaphore" ? kinds[kind] : `semaphore of ${Option.getOrElse(permits, () => "?")}`

const stateOf = (queue: Inventory.Queue, contender: Inventory.Contender, waiters: number): string =>
  [
    contender.isHolder ? "holds" : `waits ${waiters}`,
    ...queue.kind === "RwLock" ? [contender.mode.toLowerCase()] : [],
    ...queue.kind === "Semaphore" ? [`(${contender.permits})`] : []
  ].join(" ")

export const locks: listing.Listing = {
  name: "locks",
  columns: [
    { title: "NAME", isLong: true },
    { title: "KIND", dropped: 3 },
    { title: "STATE" },
    { title: "SINCE", dropped: 1 },
    { title: "TTL LEFT", dropped: 2 },
    { title: "TOKEN" },
    { title: "DESCRIPTION", isLong: true, dropped: 0 }
  ],
  rows: ({ queues }, context) =>
    queues.flatMap((queue) => {
      let waiters = 0
      return queue.contenders.map((contender, i) => [
        i === 0 ? printable(queue.name) : "",
        i === 0 ? kindOf(queue) : "",
        stateOf(queue, contender, contender.isHolder ? 0 : ++waiters),
        listing.sinceOf(contender, context),
        listing.ttlOf(contender, context),
        `${contender.token}`,
        listing.describe(contender)
      ])
    }),
  json: ({ queues }, context) =>
    queues.map((queue) => {
      const contenders = (isHolder: boolean) =>
        queue.contenders.filter((each) => each.isHolder === isHolder).map((each) => ({
          ...listing.contenderToJson(each, context),
          description: each.description,
          ...queue.kind === "RwLock" ? { mode: each.mode.toLowerCase() } : {},
          ...queue.kind === "Semaphore" ? { permits: each.permits } : {}
        }))
      return {
        name: queue.name,
        kind: kinds[queue.kind],
        ...queue.kind === "Semaphore" ? { permits: Option.getOrNull(queue.permits) } : {},
        holders: contenders(true),
        waiters: contenders(false)
      }
    }),
  leases: ({ queues }) => listing.leasesOf(queues)
}
