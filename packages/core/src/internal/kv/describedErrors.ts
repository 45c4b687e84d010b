/**
 * A backend whose errors say which call failed: the operation, and its key or range.
 *
 * It is the outermost wrapper, so an error describes the call as the caller made it: keys without the prefix of a
 * namespace, and a put even if a fence made it a transaction.
 */
import * as Effect from "effect/Effect"
import type { KvBackend } from "../../backend/KvBackend.ts"
import type * as KeyRange from "../../values/KeyRange.ts"
import * as KvError from "../../values/KvError.ts"
import type * as Op from "../../values/Op.ts"
import { describeRange } from "../values/describeRange.ts"

const known = new WeakSet<KvBackend>()

export const described = (backend: KvBackend): KvBackend => {
  if (known.has(backend)) return backend
  const view: KvBackend = {
    ...backend,
    execute: (op) => Effect.mapError(backend.execute(op), (error) => named(error, nameOf(op), keysOf(op))),
    watch: (request) => {
      const name = (error: KvError.KvError) => named(error, "watch", rangeOf(request.range))
      return Effect.map(
        Effect.mapError(backend.watch(request), name),
        (watcher) => ({ ...watcher, take: Effect.mapError(watcher.take, name) })
      )
    },
    leaseGrant: (options) => Effect.mapError(backend.leaseGrant(options), (error) => named(error, "leaseGrant")),
    leaseKeepAlive: (id) => Effect.mapError(backend.leaseKeepAlive(id), (error) => named(error, "leaseKeepAlive")),
    leaseRevoke: (id) => Effect.mapError(backend.leaseRevoke(id), (error) => named(error, "leaseRevoke")),
    leaseTimeToLive: (id, options) =>
      Effect.mapError(backend.leaseTimeToLive(id, options), (error) => named(error, "leaseTimeToLive"))
  }
  known.add(view)
  return view
}

/** Gives the errors of a `Kv` method that is made of operations the name of the method. */
export const method = <A>(
  name: string,
  key: string,
  effect: Effect.Effect<A, KvError.KvError>
): Effect.Effect<A, KvError.KvError> => Effect.mapError(effect, (error) => named(error, name, shorten(key)))

/**
 * Replaces the operation and key that an inner wrapper named. Keeps the endpoint and status, which only the backend
 * knows.
 */
const named = (error: KvError.KvError, operation: string, key?: string): KvError.KvError =>
  KvError.make(error.reason, { operation, key, endpoint: error.endpoint, status: error.status })

const nameOf = (op: Op.Op): string => {
  switch (op._tag) {
    case "Range":
      return op.countOnly === true ? "count" : op.range._tag === "Key" ? "get" : "range"
    case "Delete":
      return op.range._tag === "Key" ? "delete" : "deleteRange"
    default:
      return op._tag.toLowerCase()
  }
}

/** The keys of an operation for a message: at most `maxKeys`, shortened, and never a value. */
const keysOf = (op: Op.Op): string | undefined => {
  if (op._tag === "Put") return shorten(op.key)
  if (op._tag !== "Txn") return rangeOf(op.range)
  const all = [...new Set(allKeys(op))]
  const shown = all.slice(0, maxKeys).join(", ")
  if (all.length === 0) return undefined
  return all.length > maxKeys ? `${shown} and ${all.length - maxKeys} more` : shown
}

const maxKeys = 3

const allKeys = (op: Op.Op): ReadonlyArray<string> => {
  switch (op._tag) {
    case "Put":
      return [shorten(op.key)]
    case "Range":
    case "Delete":
      return [rangeOf(op.range)]
    case "Txn":
      return [
        ...op.if.map((compare) => compare.target === "CreatedBefore" ? rangeOf(compare.range) : shorten(compare.key)),
        ...op.then.flatMap(allKeys),
        ...op.else.flatMap(allKeys)
      ]
  }
}

const rangeOf = (range: KeyRange.KeyRange): string => shorten(describeRange(range))

const maxLength = 200

/** Takes `unknown`, because the error may be that a key is not a string. Describing it must not throw. */
const shorten = (key: unknown): string => {
  const text = String(key)
  return text.length > maxLength ? `${text.slice(0, maxLength)}...` : text
}
