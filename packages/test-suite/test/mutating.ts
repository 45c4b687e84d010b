/**
 * Helpers for mutants: functions that change the operations and responses of a backend.
 */
import * as Entry from "@effect-kv/core/Entry"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type * as KvError from "@effect-kv/core/KvError"
import type * as Op from "@effect-kv/core/Op"
import * as Effect from "effect/Effect"

type Execute = KvBackend["execute"]

/** Replaces `execute`. */
export const onExecute =
  (f: (op: Op.Op, execute: Execute) => Effect.Effect<Op.Response, KvError.KvError>) =>
  (backend: KvBackend): KvBackend => ({
    ...backend,
    execute: (op) => f(op, backend.execute)
  })

/** True one time in `n`. */
export const every = (n: number) => {
  let calls = 0
  return () => ++calls % n === 0
}

/** Writes on the condition that a key still has its create revision: fenced writes and releases of locks. */
export const guardedWrite = (op: Op.Op): Op.Op | undefined =>
  op._tag === "Txn" && op.if.length > 0 && op.if.every((compare) => compare.target === "CreateRevision") &&
    op.else.length === 0 && op.then.length === 1
    ? op.then[0]
    : undefined

/** Makes such writes without their condition. */
export const unguarded = (isMeant: (op: Op.Op) => boolean) =>
  onExecute((op, execute) => {
    const write = guardedWrite(op)
    return write === undefined || !isMeant(write) ? execute(op) : Effect.map(
      execute(write),
      (response): Op.Response => ({ _tag: "Txn", revision: response.revision, succeeded: true, responses: [response] })
    )
  })

/** Changes what an entry into a queue reads of the contenders ahead, if the key is put under that folder. */
export const onEntry = (folder: string, change: (range: Op.RangeResponse) => Op.RangeResponse) =>
  onExecute((op, execute) =>
    Effect.map(execute(op), (response) => {
      const isEntry = op._tag === "Txn" && op.then.some((inner) => inner._tag === "Put" && inner.key.includes(folder))
      if (!isEntry || response._tag !== "Txn" || !response.succeeded) return response
      return {
        ...response,
        responses: response.responses.map((inner) => inner._tag === "Range" ? change(inner) : inner)
      } as Op.Response
    })
  )

/** The entry with another value. */
export const withValue = (entry: Entry.Entry, value: string): Entry.Entry =>
  Entry.make({
    key: entry.key,
    value: new TextEncoder().encode(value),
    createRevision: entry.createRevision,
    modRevision: entry.modRevision,
    version: entry.version,
    lease: entry.lease
  })
