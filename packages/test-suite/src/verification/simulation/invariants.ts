/**
 * What lasts through a run, whatever happens in it: a temporary key, which is made again when it is lost, and a view of
 * some keys. When all is quiet the key must be there and the view be right.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type { KvError } from "@effect-kv/core/KvError"
import type * as RangeView from "@effect-kv/core/RangeView"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import type * as Recorder from "../history/Recorder.ts"
import { pause } from "./pause.ts"

/** What a process keeps. */
export interface Lasting {
  /** What is wrong with it; for a moment at which all is quiet, by a client that nothing is wrong with. */
  readonly check: (kv: Kv.Kv) => Effect.Effect<ReadonlyArray<string>, KvError>
  readonly close: Effect.Effect<void>
}

/** Begins to keep them, and tries until it can; until it is closed. */
export const make = Effect.fnUntraced(function*(
  recorder: Recorder.Recorder,
  name: string,
  backend: KvBackend,
  prefix: string,
  /** Not of keys that are made of lease ids: their order is another in each run. */
  viewed: "key/" | "temporary/"
): Effect.fn.Return<Lasting, never, Scope.Scope> {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const kv = yield* Scope.provide(Kv.make(recorder.client(name)(backend)), scope)
  const key = `${prefix}temporary/${name}`
  const value = yield* recorder.value(name)
  const range = KeyRange.prefix(`${prefix}${viewed}`)
  let view: RangeView.RangeView | undefined
  const viewing = Effect.map(kv.view(range), (latest) => {
    view = latest
  })
  yield* Effect.forkIn(until(kv.tempKey(key, { value, ttl: "2 seconds" }), scope), scope)
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
      : [`${name} sees ${seen.join(", ")}; there is ${there.join(", ")}`]
  })

  return {
    check: (direct) => Effect.map(Effect.all([checkKey(direct), checkView(direct)]), (all) => all.flat()),
    close: Scope.close(scope, Exit.void)
  }
})

/** Tries until it succeeds; what a failed attempt left is closed. */
const until = <A, E>(attempt: Effect.Effect<A, E, Scope.Scope>, outer: Scope.Scope): Effect.Effect<void> =>
  Effect.flatMap(Scope.fork(outer), (scope) =>
    Effect.matchEffect(Scope.provide(attempt, scope), {
      onSuccess: () => Effect.void,
      onFailure: () =>
        Scope.close(scope, Exit.void).pipe(Effect.andThen(pause(50, 500)), Effect.andThen(until(attempt, outer)))
    }))
