/**
 * The listing of members, slots and temporary keys: the keys with a lease that contend for nothing, by their folders.
 */
import type { Entry } from "@effect-kv/core/Entry"
import * as Option from "effect/Option"
import * as values from "../values.ts"
import { printable } from "./cells.ts"
import * as leaseTimes from "./leaseTimes.ts"
import * as listing from "./listing.ts"

/** The group and the id of a member. */
const partsOf = (key: string): readonly [group: string, id: string] => {
  const slash = key.lastIndexOf("/")
  return [key.slice(0, Math.max(0, slash)), key.slice(slash + 1)]
}

const longestValue = 200

const shown = ({ value }: Entry): string => {
  const text = values.textOf(value)
  return text === undefined ? `(${value.length} bytes)` : printable(text.slice(0, longestValue))
}

export const members: listing.Listing = {
  name: "members",
  columns: [
    { title: "GROUP", isLong: true },
    { title: "ID", isLong: true },
    { title: "TTL LEFT", dropped: 2 },
    { title: "LEASE", dropped: 3 },
    { title: "REVISION", dropped: 4 },
    { title: "VALUE", isLong: true, dropped: 1 }
  ],
  rows: ({ leasedKeys }, context) => {
    let last: string | undefined
    return leasedKeys.map((entry) => {
      const [group, id] = partsOf(entry.key)
      const isFirst = group !== last
      last = group
      return [
        isFirst ? printable(group) : "",
        printable(id),
        listing.ttlOf(entry, context),
        values.leaseToJson(entry) ?? "",
        `${entry.modRevision}`,
        shown(entry)
      ]
    })
  },
  json: ({ leasedKeys }, { leases, now }) =>
    leasedKeys.map((entry) => {
      const [group, id] = partsOf(entry.key)
      return {
        group,
        id,
        ...values.entryToJson(entry),
        ...leaseTimes.fields(Option.isNone(entry.lease) ? undefined : leases.get(entry.lease.value), now)
      }
    }),
  leases: ({ leasedKeys }) => leasedKeys.flatMap(({ lease }) => Option.toArray(lease))
}
