/**
 * The listing of sessions: the leases that keys are attached to, and what each of them holds, waits for and keeps.
 *
 * A client shares one lease among its locks and temporary keys of one time to live, so a session stands for a process.
 */
import type * as Inventory from "@effect-kv/core/Inventory"
import * as Option from "effect/Option"
import { printable } from "./cells.ts"
import * as leaseTimes from "./leaseTimes.ts"
import type * as listing from "./listing.ts"

interface Session {
  readonly lease: bigint
  readonly holds: Array<string>
  readonly waits: Array<string>
  readonly keys: Array<string>
  readonly descriptions: Set<string>
}

const sessionsOf = ({ leasedKeys, queues }: Inventory.Snapshot): ReadonlyArray<Session> => {
  const sessions = new Map<bigint, Session>()
  const of = (lease: bigint): Session => {
    const known = sessions.get(lease) ?? { lease, holds: [], waits: [], keys: [], descriptions: new Set<string>() }
    sessions.set(lease, known)
    return known
  }
  for (const { contenders, name } of queues) {
    for (const { description, isHolder, lease } of contenders) {
      if (Option.isNone(lease)) continue
      const session = of(lease.value)
      session[isHolder ? "holds" : "waits"].push(name)
      if (description !== "") session.descriptions.add(description)
    }
  }
  for (const { key, lease } of leasedKeys) if (Option.isSome(lease)) of(lease.value).keys.push(key)
  return [...sessions.values()].sort((a, b) => a.lease < b.lease ? -1 : 1)
}

const joined = (names: Iterable<string>): string => [...names].map(printable).join(", ") || "-"

export const sessions: listing.Listing = {
  name: "sessions",
  columns: [
    { title: "LEASE" },
    { title: "TTL LEFT" },
    { title: "HOLDS", isLong: true },
    { title: "WAITS FOR", isLong: true },
    { title: "OTHER KEYS", isLong: true, dropped: 2 },
    { title: "DESCRIPTION", isLong: true, dropped: 1 }
  ],
  rows: (snapshot, { leases, now }) =>
    sessionsOf(snapshot).map(({ descriptions, holds, keys, lease, waits }) => [
      lease.toString(16),
      leaseTimes.text(leases.get(lease), now),
      joined(holds),
      joined(waits),
      joined(keys),
      joined(descriptions)
    ]),
  json: (snapshot, { leases, now }) =>
    sessionsOf(snapshot).map(({ descriptions, holds, keys, lease, waits }) => ({
      lease: lease.toString(16),
      ...leaseTimes.fields(leases.get(lease), now),
      holds,
      waitsFor: waits,
      keys,
      descriptions: [...descriptions]
    })),
  leases: (snapshot) => sessionsOf(snapshot).map(({ lease }) => lease)
}
