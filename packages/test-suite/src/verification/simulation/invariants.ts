/**
 * Invariants of a run: a temporary key, which is re-created after each loss, and a view of some keys. After the faults have
 * ended, the key must exist and the view must equal the store.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type { KvError } from "@effect-kv/core/KvError"
import * as RangeView from "@effect-kv/core/RangeView"
import * as TempKey from "@effect-kv/core/TempKey"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import type * as Recorder from "../history/Recorder.ts"
import { pause } from "./pause.ts"

/** The invariants of a process. */
export interface Invariants {
  /** The broken invariants. Call it after the faults have ended, with a client without faults. */
  readonly check: (kv: Kv.Kv) => Effect.Effect<ReadonlyArray<string>, KvError>
  readonly close: Effect.Effect<void>
}

/** Creates the temporary key and the view, retrying until it succeeds, and keeps them until it is closed. */
export const make = Effect.fnUntraced(function*(
  recorder: Recorder.Recorder,
  name: string,
  backend: KvBackend,
  prefix: string,
  /** Not the keys of locks: they contain lease ids, so their order differs between runs. */
  viewed: "key/" | "temporary/"
): Effect.fn.Return<Invariants, never, Scope.Scope> {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const kv = yield* Scope.provide(Kv.make(recorder.client(name)(backend)), scope)
  const key = `${prefix}temporary/${name}`
  const value = yield* recorder.value(name)
  const range = KeyRange.prefix(`${prefix}${viewed}`)
  let view: RangeView.RangeView | undefined
  const viewing = Effect.map(Effect.provideService(RangeView.make(range), Kv.Kv, kv), (latest) => {
    view = latest
  })
  yield* Effect.forkIn(
    until(Effect.provideService(TempKey.make(key, { value, ttl: "2 seconds" }), Kv.Kv, kv), scope),
    scope
  )
  yield* Effect.forkIn(until(viewing, scope), scope)

  const checkKey = (direct: Kv.Kv) =>
    Effect.map(direct.get(key), (found) => Option.contains(found, value) ? [] : [`the temporary key ${key} is missing`])

  const checkView = Effect.fnUntraced(function*(direct: Kv.Kv) {
    if (view === undefined) return [`${name} has no view`]
    const snapshot = yield* Effect.result(view.snapshot)
    if (Result.isFailure(snapshot)) return [`the view of ${name} has failed: ${snapshot.failure.message}`]
    const { entries } = yield* direct.range(range)
    const there = entries.map(({ key, modRevision }) => `${key} at ${modRevision}`)
    const seen = [...snapshot.success.entries.values()].map(({ key, modRevision }) => `${key} at ${modRevision}`)
    return there.join() === seen.toSorted().join()
      ? []
      : [`${name} sees ${seen.join(", ")}; the store has ${there.join(", ")}`]
  })

  return {
    check: (direct) => Effect.map(Effect.all([checkKey(direct), checkView(direct)]), (all) => all.flat()),
    close: Scope.close(scope, Exit.void)
  }
})

/** Retries until an attempt succeeds. The scope of a failed attempt is closed. */
const until = <A, E>(attempt: Effect.Effect<A, E, Scope.Scope>, outer: Scope.Scope): Effect.Effect<void> =>
  Effect.flatMap(Scope.fork(outer), (scope) =>
    Effect.matchEffect(Scope.provide(attempt, scope), {
      onSuccess: () => Effect.void,
      onFailure: () =>
        Scope.close(scope, Exit.void).pipe(Effect.andThen(pause(50, 500)), Effect.andThen(until(attempt, outer)))
    }))
