/**
 * Namespaces: a backend narrowed to the keys with a prefix.
 *
 * The prefix is added to the keys of operations, conditions and watches. It is removed from the keys of responses,
 * previous entries, watch events and leases. No range reaches outside, whatever its bounds.
 */
import * as Array from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as rootCompare from "../internal/fence/rootCompare.ts"
import * as leaseRecord from "../internal/values/leaseRecord.ts"
import * as watcherTake from "../internal/watch/watcherTake.ts"
import * as Compare from "../values/Compare.ts"
import type * as Entry from "../values/Entry.ts"
import * as KeyRange from "../values/KeyRange.ts"
import * as KvError from "../values/KvError.ts"
import * as Op from "../values/Op.ts"
import * as Watch from "../values/Watch.ts"
import * as Check from "./Check.ts"
import type { KvBackend } from "./KvBackend.ts"

/**
 * Narrows a backend to the keys that begin with the prefix.
 *
 * **When to use**
 *
 * In a backend. Applications use `Kv.prefixed`, which keeps the client and its fences.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Namespace } from "@effect-kv/core/backend"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const whole = yield* Effect.flatMap(store.connect, Kv.make)
 *   const app = yield* Effect.flatMap(store.connect, (backend) => Kv.make(Namespace.prefixed("app/")(backend)))
 *   yield* app.put("limit", "10")
 *   yield* whole.get("app/limit") // => Option.some("10")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const prefixed = (prefix: string) => (backend: KvBackend): KvBackend => {
  const checkPrefix = prefix.isWellFormed() ? undefined : "the prefix of a namespace must be well-formed Unicode"
  const strip = stripEntry(prefix)
  return {
    execute: (op) => {
      // Checked before the prefix is added, because an empty key would become a valid one behind it.
      const problem = checkPrefix ?? Check.op(op)
      return problem === undefined
        ? Effect.map(backend.execute(addPrefix(prefix, op)), (response) => stripResponse(strip, response))
        : KvError.fail(new KvError.InvalidRequest({ message: problem }))
    },
    watch: (request) =>
      Effect.flatMap(
        Check.orFail(checkPrefix ?? Check.watch(request)),
        () =>
          Effect.map(
            backend.watch({ ...request, range: KeyRange.addPrefix(request.range, prefix) }),
            (watcher) => ({
              ...watcher,
              take: watcherTake.filterMap(watcher.take, Array.map(stripRevision(prefix, strip)))
            })
          )
      ),
    leaseGrant: backend.leaseGrant,
    leaseKeepAlive: backend.leaseKeepAlive,
    leaseRevoke: backend.leaseRevoke,
    leaseTimeToLive: (id, options) =>
      Effect.map(backend.leaseTimeToLive(id, options), (status) =>
        leaseRecord.makeStatus({
          ...status,
          // The prefix itself, as a key, is outside the namespace: inside, it would be the empty key.
          keys: status.keys.filter((key) => key !== prefix && key.startsWith(prefix)).map((key) =>
            key.slice(prefix.length)
          )
        }))
  }
}

const addPrefix = (prefix: string, op: Op.Op): Op.Op => {
  switch (op._tag) {
    case "Put":
      return Op.put(prefix + op.key, op.value, op)
    case "Range":
    case "Delete":
      return { ...op, range: KeyRange.addPrefix(op.range, prefix) }
    case "Txn":
      return Op.txn({
        if: op.if.map((compare) => prefixCompare(prefix, compare)),
        then: op.then.map((op) => addPrefix(prefix, op)),
        else: op.else.map((op) => addPrefix(prefix, op))
      })
  }
}

const prefixCompare = (prefix: string, compare: Compare.Compare): Compare.Compare => {
  if (rootCompare.is(compare)) return compare
  switch (compare.target) {
    case "Value":
      return Compare.value(prefix + compare.key, compare.operator, compare.value)
    case "CreatedBefore":
      return { ...compare, range: KeyRange.addPrefix(compare.range, prefix) }
    default:
      return { ...compare, key: prefix + compare.key }
  }
}

const stripEntry = (prefix: string) => (entry: Entry.Entry): Entry.Entry =>
  entry.withKey(entry.key.slice(prefix.length))

const stripResponse = (
  strip: (entry: Entry.Entry) => Entry.Entry,
  response: Op.Response
): Op.Response => {
  switch (response._tag) {
    case "Range":
      return Op.rangeResponse({ ...response, entries: response.entries.map(strip) })
    case "Put":
      return Op.putResponse({ ...response, previous: Option.map(response.previous, strip) })
    case "Delete":
      return Op.deleteResponse({ ...response, previous: response.previous.map(strip) })
    case "Txn":
      return Op.txnResponse({ ...response, responses: response.responses.map((inner) => stripResponse(strip, inner)) })
  }
}

const stripRevision =
  (prefix: string, strip: (entry: Entry.Entry) => Entry.Entry) => (watched: Watch.Revision): Watch.Revision =>
    Watch.revision(
      watched.revision,
      Array.map(watched.events, (event): Watch.Event => {
        const key = event.key.slice(prefix.length)
        const previous = Option.map(event.previous, strip)
        return event._tag === "Put"
          ? Watch.putEvent({ ...event, key, entry: strip(event.entry), previous })
          : Watch.deleteEvent({ ...event, key, previous })
      })
    )
