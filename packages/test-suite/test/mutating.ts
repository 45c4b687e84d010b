/**
 * Helpers for mutants: functions that change the operations and responses of a backend.
 */
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type * as KvError from "@effect-kv/core/KvError"
import type * as Op from "@effect-kv/core/Op"
import type * as Effect from "effect/Effect"

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
