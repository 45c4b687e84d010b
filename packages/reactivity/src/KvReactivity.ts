/**
 * A bridge from the store to Effect's `Reactivity`: a change of a key, by any process, invalidates reactivity keys in
 * this process. So the queries, streams and atoms of all replicas refresh.
 *
 * Nothing is missed. After an outage the watch delivers what happened meanwhile. If that history is gone, everything in
 * the range is invalidated.
 */
import type * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import type { ReadonlyRecord } from "effect/Record"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/**
 * Keys of Effect's `Reactivity`, as its service accepts them.
 *
 * @since 0.1.0
 */
export type Keys = ReadonlyArray<unknown> | ReadonlyRecord<string, ReadonlyArray<unknown>>

/**
 * Options of {@link layer} and {@link follow}.
 *
 * @since 0.1.0
 */
export interface Options {
  /**
   * The reactivity keys that a change of a key of the store invalidates. Default: {@link keysOf}, the key itself and
   * every folder that contains it.
   */
  readonly keys?: ((key: string) => Keys) | undefined
}

/**
 * The key, and every folder that contains it, each with its slash at the end.
 *
 * @example
 * ```ts
 * import { KvReactivity } from "@effect-kv/reactivity"
 *
 * KvReactivity.keysOf("app/users/ada") // => ["app/users/ada", "app/users/", "app/"]
 * ```
 *
 * @since 0.1.0
 */
export const keysOf = (key: string): ReadonlyArray<string> => {
  const names = key.split("/").slice(0, -1)
  return [key, ...names.map((_, i) => `${names.slice(0, i + 1).join("/")}/`).reverse()]
}

/**
 * Invalidates reactivity keys when keys of the range change, until the scope closes.
 *
 * **Details**
 *
 * When this returns, the store has confirmed the watch: every later change invalidates. Changes that arrive together
 * are one batch, in which each query runs once. A change is invalidated in the process that made it, too.
 *
 * Fails if the range cannot be read now. Later failures are not the caller's: the bridge opens its watch again,
 * repeatedly if necessary, and then invalidates everything in the range, deleted keys included.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv } from "@effect-kv/core"
 * import { KvReactivity } from "@effect-kv/reactivity"
 * import { Effect, Queue } from "effect"
 * import { Reactivity } from "effect/reactivity"
 *
 * const program = Effect.gen(function*() {
 *   yield* KvReactivity.follow(KeyRange.prefix("users/"))
 *   const count = Kv.range(KeyRange.prefix("users/"), { countOnly: true })
 *   const counts = yield* Reactivity.query(Effect.map(count, (found) => found.count), ["users/"])
 *   yield* Queue.take(counts) // => 0
 *   yield* Kv.put("users/ada", "{}") // by this process or any other
 *   yield* Queue.take(counts) // => 1
 * }).pipe(Effect.scoped, Effect.provide(Reactivity.layer))
 * ```
 *
 * @since 0.1.0
 */
export const follow = Effect.fnUntraced(function*(
  range: KeyRange.KeyRange,
  options?: Options
): Effect.fn.Return<void, KvError.KvError, Kv.Kv | Reactivity.Reactivity | Scope.Scope> {
  const kv = yield* Kv.Kv
  const reactivity = yield* Reactivity.Reactivity
  const outer = yield* Effect.scope
  const toKeys = options?.keys ?? keysOf
  let known: Set<string>

  const open = Effect.gen(function*() {
    const scope = yield* Scope.fork(outer)
    return yield* Effect.gen(function*() {
      const { revisions } = yield* kv.subscribe(range)
      // After the watch has begun, so that no key is missed.
      const { entries } = yield* kv.range(range, { keysOnly: true })
      return { scope, revisions, keys: new Set(entries.map(({ key }) => key)) }
    }).pipe(
      Scope.provide(scope),
      Effect.onExit((exit) => Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void)
    )
  })

  const inOneBatch = (keys: Iterable<string>): Effect.Effect<void> =>
    reactivity.withBatch(
      Effect.forEach(keys, (key) =>
        Effect.catchDefect(
          Effect.suspend(() => reactivity.invalidate(toKeys(key))),
          (defect) => logMapping(key, defect)
        ), { discard: true })
    )

  /** A handler that throws ends its batch. So each key gets one of its own then. */
  const invalidate = (keys: ReadonlySet<string>): Effect.Effect<void> =>
    Effect.catchDefect(inOneBatch(keys), () =>
      Effect.forEach(
        keys,
        (key) => Effect.catchDefect(inOneBatch([key]), (defect) => logHandler(key, defect)),
        { discard: true }
      ))

  const apply = (revisions: ReadonlyArray<Revision>): Effect.Effect<void> =>
    Effect.suspend(() => {
      const changed = new Set<string>()
      for (const { events } of revisions) {
        for (const event of events) {
          changed.add(event.key)
          if (event._tag === "Put") known.add(event.key)
          else known.delete(event.key)
        }
      }
      return invalidate(changed)
    })

  const first = yield* open
  known = first.keys

  const run = Effect.gen(function*() {
    let opened = first
    while (true) {
      const error = yield* Effect.flip(Effect.andThen(Stream.runForEachArray(opened.revisions, apply), Effect.never))
        .pipe(
          Effect.ensuring(Scope.close(opened.scope, Exit.void))
        )
      if (isClosed(error)) return
      if (!isLossOfHistory(error)) yield* Effect.sleep(firstPause)
      opened = yield* Effect.retry(open, { schedule: reopenSchedule, while: (error) => !isClosed(error) })
      const before = known
      known = opened.keys
      yield* invalidate(new Set([...before, ...known]))
      yield* Effect.logInfo("effect-kv: changes are followed again, and everything was invalidated")
    }
  })
  yield* Effect.forkScoped(Effect.ignore(run))
})

type Revision = { readonly events: ReadonlyArray<{ readonly _tag: "Put" | "Delete"; readonly key: string }> }

const isClosed = (error: KvError.KvError): boolean => error.reason._tag === "Closed"

/** Whether the changes that the watch missed cannot be read, but new ones can. */
const isLossOfHistory = ({ reason: { _tag } }: KvError.KvError): boolean =>
  _tag === "Compacted" || _tag === "StoreReplaced"

const firstPause = "500 millis"

const reopenSchedule = Schedule.min([Schedule.exponential(firstPause), Schedule.spaced("30 seconds")])

const logMapping = (key: string, defect: unknown): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logError("effect-kv: the function of the option `keys` threw", defect), { key })

const logHandler = (key: string, defect: unknown): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logError("effect-kv: a handler of Reactivity threw", defect), { key })

/**
 * A layer that runs {@link follow} as long as it lives.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv } from "@effect-kv/core"
 * import { KvReactivity } from "@effect-kv/reactivity"
 * import { Effect, Layer, Queue } from "effect"
 * import { Reactivity } from "effect/reactivity"
 *
 * // Every program that changes the table `users` of a database also writes `changed/users`.
 * const Changes = KvReactivity.layer(KeyRange.prefix("changed/"), {
 *   keys: (key) => [key.slice("changed/".length)]
 * }).pipe(Layer.provideMerge(Reactivity.layer))
 *
 * const table = ["ada"]
 *
 * const program = Effect.gen(function*() {
 *   const sizes = yield* Reactivity.query(Effect.sync(() => table.length), ["users"])
 *   yield* Queue.take(sizes) // => 1
 *   table.push("bert")
 *   yield* Kv.put("changed/users", "")
 *   yield* Queue.take(sizes) // => 2
 * }).pipe(Effect.scoped, Effect.provide(Changes))
 * ```
 *
 * @since 0.1.0
 */
export const layer = (
  range: KeyRange.KeyRange,
  options?: Options
): Layer.Layer<never, KvError.KvError, Kv.Kv | Reactivity.Reactivity> => Layer.effectDiscard(follow(range, options))
