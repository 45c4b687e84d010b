/**
 * The lists of endpoints of a layer: one that stays, or those of a stream.
 */
import * as KvError from "@effect-kv/core/KvError"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as addresses from "./addresses.ts"
import { nameOf } from "./nameOf.ts"
import type { Options } from "./options.ts"

export interface EndpointLists {
  readonly first: ReadonlyArray<string>
  /** Passes on each later list, except invalid ones, until the stream ends. */
  readonly follow: (onList: (list: ReadonlyArray<string>) => Effect.Effect<void>) => Effect.Effect<void>
}

/** Waits for the first list, and checks it. The scope is that of the stream. */
export const make = (
  endpoints: Options["endpoints"]
): Effect.Effect<EndpointLists, KvError.KvError, Scope.Scope> =>
  Stream.isStream(endpoints)
    ? fromStream(endpoints)
    : Effect.map(checked(endpoints), (first) => ({ first, follow: () => Effect.void }))

const fromStream = Effect.fnUntraced(
  function*(
    stream: Stream.Stream<ReadonlyArray<string>, unknown>
  ): Effect.fn.Return<EndpointLists, KvError.KvError, Scope.Scope> {
    // The stream keeps the context in which the layer is built, its clock included.
    const context = yield* Effect.context<never>()
    // Of several lists at once, only the last one counts.
    const pull = Effect.map(
      Effect.setContext(yield* Stream.toPull(stream), context),
      (lists) => lists[lists.length - 1]!
    )
    const first = yield* Effect.catchCause(pull, (cause) =>
      Pull.isDoneCause(cause)
        ? KvError.fail(new KvError.InvalidRequest({ message: "the stream of endpoints ended without a list" }))
        : KvError.fail(
          new KvError.Unavailable({ message: `the stream of endpoints failed before its first list: ${nameOf(cause)}` })
        ))
    const valid = yield* checked(first)
    return { first: valid, follow: (onList) => follow(pull, addresses.isSecure(valid[0]!), onList) }
  }
)

const follow = Effect.fnUntraced(function*(
  pull: Effect.Effect<ReadonlyArray<string>, unknown>,
  isSecure: boolean,
  onList: (list: ReadonlyArray<string>) => Effect.Effect<void>
) {
  while (true) {
    const next = yield* Effect.result(Effect.sandbox(pull))
    if (next._tag === "Failure") return yield* warnOfEnd(next.failure)
    const problem = addresses.listProblem(next.success) ??
      (addresses.isSecure(next.success[0]!) === isSecure ? undefined : "the scheme differs from that of the first list")
    if (problem === undefined) yield* onList(distinct(next.success))
    else yield* warn("a list of endpoints was ignored", problem)
  }
})

const warnOfEnd = (cause: Cause.Cause<unknown>): Effect.Effect<void> =>
  Pull.isDoneCause(cause)
    ? Effect.void
    : warn("the stream of endpoints failed, and its last list stays in use", nameOf(cause))

const warn = (message: string, reason: string): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logWarning(`effect-kv: ${message}`), { reason })

const checked = (list: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<string>, KvError.KvError> => {
  const problem = addresses.listProblem(list)
  return problem === undefined
    ? Effect.succeed(distinct(list))
    : KvError.fail(new KvError.InvalidRequest({ message: problem }))
}

const distinct = (list: ReadonlyArray<string>): ReadonlyArray<string> => [...new Set(list.map(addresses.normalized))]
