/**
 * The directory of registered runners: a view that follows the store, so that `Sharding` may poll it as often as it
 * likes.
 *
 * A runner must find its own registration at once: `Sharding` registers again, without a pause, as long as it does not.
 * So while the view is stale, or does not yet contain a registration of this process, the store is read instead.
 */
import type { Entry } from "@effect-kv/core/Entry"
import * as Kv from "@effect-kv/core/Kv"
import { execute } from "@effect-kv/core/KvBackend"
import type * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as RangeView from "@effect-kv/core/RangeView"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import type { Cluster } from "./cluster.ts"
import type { Runner } from "./runner.ts"

interface OpenView {
  readonly view: RangeView.RangeView
  readonly scope: Scope.Closeable
  isStale: boolean
}

/** Returns the effect that reads all registrations. The view is opened at the first read. */
export const make = Effect.fnUntraced(function*(
  { keys, kv, store }: Cluster,
  own: ReadonlyMap<string, Runner>
): Effect.fn.Return<Effect.Effect<ReadonlyArray<Entry>, KvError.KvError>, never, Scope.Scope> {
  const layerScope = yield* Effect.scope
  const opening = Semaphore.makeUnsafe(1)
  let current: OpenView | undefined

  const open = Effect.gen(function*() {
    const scope = yield* Scope.fork(layerScope)
    return yield* Effect.gen(function*() {
      const view = yield* Effect.provideService(RangeView.make(keys.runners), Kv.Kv, kv)
      const opened: OpenView = { view, scope, isStale: false }
      yield* view.staleSince.pipe(
        Stream.runForEach((since) =>
          Effect.sync(() => {
            opened.isStale = Option.isSome(since)
          })
        ),
        Effect.ignore,
        Effect.forkScoped
      )
      return opened
    }).pipe(
      Scope.provide(scope),
      Effect.onExit((exit) => Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void)
    )
  })

  const opened = opening.withPermits(1)(
    Effect.suspend(() =>
      current !== undefined ? Effect.succeed(current) : Effect.tap(open, (view) =>
        Effect.sync(() => {
          current = view
        }))
    )
  )

  /** Drops a view that is no longer kept current, for example because a permission was revoked. */
  const drop = (view: OpenView) =>
    Effect.suspend(() => {
      if (current === view) current = undefined
      return Scope.close(view.scope, Exit.void)
    })

  const contains = (entries: ReadonlyMap<string, Entry>, { address, registeredAt }: Runner) =>
    registeredAt === 0n || (entries.get(keys.runner(address))?.modRevision ?? 0n) >= registeredAt

  return Effect.gen(function*() {
    const view = yield* opened
    const { entries } = yield* Effect.tapError(view.view.snapshot, () => drop(view))
    if (!view.isStale && [...own.values()].every((runner) => contains(entries, runner))) return [...entries.values()]
    return (yield* execute(store, Op.range(keys.runners))).entries
  })
})
