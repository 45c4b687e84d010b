/**
 * The listing of elections: the leader, its value and the other candidates. To the store a lock is an election as well.
 */
import type * as Inventory from "@effect-kv/core/Inventory"
import { printable } from "./cells.ts"
import * as listing from "./listing.ts"

const electionsOf = ({ queues }: Inventory.Snapshot) => queues.filter(({ kind }) => kind === "Lock")

export const elections: listing.Listing = {
  name: "elections",
  columns: [
    { title: "NAME", isLong: true },
    { title: "STATE" },
    { title: "SINCE", dropped: 1 },
    { title: "TTL LEFT", dropped: 2 },
    { title: "TOKEN", dropped: 0 },
    { title: "VALUE", isLong: true }
  ],
  rows: (snapshot, context) =>
    electionsOf(snapshot).flatMap(({ contenders, name }) =>
      contenders.map((candidate, i) => [
        i === 0 ? printable(name) : "",
        candidate.isHolder ? "leads" : `waits ${i}`,
        listing.sinceOf(candidate, context),
        listing.ttlOf(candidate, context),
        `${candidate.token}`,
        listing.describe(candidate)
      ])
    ),
  json: (snapshot, context) =>
    electionsOf(snapshot).map(({ contenders, name }) => {
      const [leader = null, ...candidates] = contenders.map((candidate) => ({
        ...listing.contenderToJson(candidate, context),
        value: candidate.description,
        revision: candidate.revision
      }))
      return { name, leader, candidates }
    }),
  leases: (snapshot) => listing.leasesOf(electionsOf(snapshot))
}
