/**
 * The data methods of `Kv`: reads, writes, transactions, and methods composed of them.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import type { Kv } from "../../service/KvService.ts"
import * as Compare from "../../values/Compare.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import type * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import * as atomically from "./atomically.ts"
import { method } from "./describedErrors.ts"
import type { Origin } from "./guard.ts"
import * as modifies from "./modify.ts"
import * as putKeepingLease from "./putKeepingLease.ts"

type Data = Pick<
  Kv,
  | "get"
  | "getEntry"
  | "range"
  | "rangeStream"
  | "count"
  | "put"
  | "delete"
  | "deleteRange"
  | "txn"
  | "testAndSet"
  | "compareAndSet"
  | "modify"
  | "modifySome"
  | "atomically"
>

const defaultPageSize = 512

export const make = (backend: KvBackend, origin: Origin): Data => {
  const modifyKey = modifies.make(backend, origin)

  const getEntry: Kv["getEntry"] = (key, options) =>
    Effect.map(execute(backend, Op.get(key, options)), (response) => Option.fromUndefinedOr(response.entries[0]))

  const get: Kv["get"] = (key, options) => Effect.flatMap(execute(backend, Op.get(key, options)), textOfFirst)

  const range: Kv["range"] = (range, options) => execute(backend, Op.range(range, options))

  const rangeStream: Kv["rangeStream"] = (range, options) => {
    const { pageSize = defaultPageSize, ...rest } = options ?? {}
    return Stream.paginate(
      { range, revision: options?.revision },
      Effect.fnUntraced(function*(position) {
        const page = yield* execute(
          backend,
          Op.range(position.range, { ...rest, revision: position.revision, limit: pageSize })
        )
        const last = page.entries.at(-1)
        const next = page.more && last !== undefined ? KeyRange.after(position.range, last.key) : undefined
        return [
          page.entries,
          next === undefined
            ? Option.none()
            : Option.some({ range: next, revision: position.revision ?? page.revision })
        ] as const
      })
    )
  }

  const count: Kv["count"] = (range, options) =>
    Effect.map(execute(backend, Op.range(range, { ...options, countOnly: true })), (response) => response.count)

  const put: Kv["put"] = (key, value, options) => {
    const lease = options?.lease
    return lease === "keep"
      ? method("put", key, putKeepingLease.put(backend, key, value, options?.previous))
      : execute(backend, Op.put(key, value, { lease, previous: options?.previous }))
  }

  const delete_: Kv["delete"] = (key, options) => execute(backend, Op.delete(key, options))

  const deleteRange: Kv["deleteRange"] = (range, options) => execute(backend, Op.deleteRange(range, options))

  const txn: Kv["txn"] = (input) => execute(backend, Op.txn(input))

  const testAndSet: Kv["testAndSet"] = (key, expected, value, options) =>
    Effect.map(
      method(
        "testAndSet",
        key,
        txn({
          if: [
            Option.match(expected, {
              onNone: () => Compare.missing(key),
              onSome: (expected) => Compare.value(key, "=", expected)
            })
          ],
          then: [Op.put(key, value, options)]
        })
      ),
      (response) => response.succeeded
    )

  const compareAndSet: Kv["compareAndSet"] = (key, modRevision, value, options) =>
    Effect.map(
      method(
        "compareAndSet",
        key,
        txn({
          if: [Compare.modRevision(key, "=", modRevision)],
          then: [Op.put(key, value, options)]
        })
      ),
      (response) => response.succeeded ? Option.some(response.revision) : Option.none()
    )

  const modify: Kv["modify"] = (key, f) =>
    method(
      "modify",
      key,
      modifyKey(key, ({ text }) =>
        Effect.map(text, (current) => {
          const result = f(current)
          return { text: Option.some(result), result }
        }))
    )

  const modifySome: Kv["modifySome"] = (key, f) =>
    method(
      "modifySome",
      key,
      modifyKey(key, ({ text }) =>
        Effect.map(text, (current) => {
          const result = f(current)
          return { text: result, result }
        }))
    )

  return {
    get,
    getEntry,
    range,
    rangeStream,
    count,
    put,
    delete: delete_,
    deleteRange,
    txn,
    testAndSet,
    compareAndSet,
    modify,
    modifySome,
    atomically: atomically.make(backend, origin)
  }
}

const succeedNone: Effect.Effect<Option.Option<string>> = Effect.succeed(Option.none())

const textOfFirst = (response: Op.RangeResponse): Effect.Effect<Option.Option<string>, KvError.KvError> => {
  const entry = response.entries[0]
  return entry === undefined ? succeedNone : Effect.mapEager(entry.text, Option.some)
}
