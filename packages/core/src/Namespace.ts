/**
 * Narrows a backend to the keys with a prefix.
 *
 * Keys go in and come out without the prefix: in operations, conditions, responses, previous entries, watch events and
 * the keys of leases. No range can reach outside, whatever its bounds.
 */
import * as Array from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Compare from "./Compare.ts"
import type * as Entry from "./Entry.ts"
import * as takes from "./internal/takes.ts"
import * as KeyRange from "./KeyRange.ts"
import type { KvBackend } from "./KvBackend.ts"
import * as KvError from "./KvError.ts"
import * as Op from "./Op.ts"
import * as Watch from "./Watch.ts"

/** The part of a store whose keys begin with `prefix`, as a store of its own. */
export const within = (prefix: string) => (backend: KvBackend): KvBackend => {
  // An empty key would become a valid one behind the prefix, so requests are checked as they were made.
  const check = (problem: string | undefined): Effect.Effect<void, KvError.KvError> =>
    problem === undefined ? Effect.void : KvError.fail(new KvError.InvalidRequest({ message: problem }))
  const checkPrefix = prefix.isWellFormed() ? undefined : "the prefix of a namespace must be well-formed Unicode"
  const strip = stripEntry(prefix)
  return {
    execute: (op) =>
      Effect.flatMap(
        check(checkPrefix ?? Op.check(op)),
        () => Effect.map(backend.execute(addPrefix(prefix, op)), (response) => stripResponse(strip, response))
      ) as ReturnType<KvBackend["execute"]> as never,
    watch: (request) =>
      Effect.flatMap(
        check(checkPrefix ?? Watch.check(request)),
        () =>
          Effect.map(
            backend.watch({ ...request, range: KeyRange.within(request.range, prefix) }),
            (watcher) => ({ ...watcher, take: takes.filterMap(watcher.take, Array.map(stripBatch(prefix, strip))) })
          )
      ),
    leaseGrant: backend.leaseGrant,
    leaseKeepAlive: backend.leaseKeepAlive,
    leaseRevoke: backend.leaseRevoke,
    leaseTimeToLive: (id, options) =>
      Effect.map(backend.leaseTimeToLive(id, options), (status) => ({
        ...status,
        // The key that is the prefix itself is outside: within, it would be the empty key.
        keys: status.keys.filter((key) => key !== prefix && key.startsWith(prefix)).map((key) =>
          key.slice(prefix.length)
        )
      }))
  }
}

const addPrefix = <O extends Op.Op>(prefix: string, op: O): O => mapKeys(prefix, op) as O

const mapKeys = (prefix: string, op: Op.Op): Op.Op => {
  switch (op._tag) {
    case "Put":
      return Op.put(prefix + op.key, op.value, op)
    case "Range":
    case "Delete":
      return { ...op, range: KeyRange.within(op.range, prefix) }
    case "Txn":
      return Op.txn({
        if: op.if.map((compare) => prefixCompare(prefix, compare)),
        then: op.then.map((op) => mapKeys(prefix, op)),
        else: op.else.map((op) => mapKeys(prefix, op))
      })
  }
}

const prefixCompare = (prefix: string, compare: Compare.Compare): Compare.Compare => {
  switch (compare.target) {
    case "Value":
      return Compare.value(prefix + compare.key, compare.operator, compare.value)
    case "CreatedBefore":
      return { ...compare, range: KeyRange.within(compare.range, prefix) }
    default:
      return { ...compare, key: prefix + compare.key }
  }
}

const stripEntry = (prefix: string) => (entry: Entry.Entry): Entry.Entry =>
  entry.withKey(entry.key.slice(prefix.length))

const stripResponse = (
  strip: (entry: Entry.Entry) => Entry.Entry,
  response: Op.Response<Op.Op>
): Op.Response<Op.Op> => {
  switch (response._tag) {
    case "Range":
      return { ...response, entries: response.entries.map(strip) }
    case "Put":
      return { ...response, previous: Option.map(response.previous, strip) }
    case "Delete":
      return { ...response, previous: response.previous.map(strip) }
    case "Txn":
      return { ...response, responses: response.responses.map((inner) => stripResponse(strip, inner)) }
  }
}

const stripBatch =
  (prefix: string, strip: (entry: Entry.Entry) => Entry.Entry) => (batch: Watch.Batch): Watch.Batch => ({
    revision: batch.revision,
    events: Array.map(batch.events, (event): Watch.Event => {
      const key = event.key.slice(prefix.length)
      const previous = Option.map(event.previous, strip)
      return event._tag === "Put" ? { ...event, key, entry: strip(event.entry), previous } : { ...event, key, previous }
    })
  })
