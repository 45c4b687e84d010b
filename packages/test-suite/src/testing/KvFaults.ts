/**
 * Faults for tests of your own code: a store seen through a link on which the test decides what goes wrong, and when.
 *
 * `KvFaults.layer` stands between a backend's layer and your program. With the `KvFaults` service the test makes a
 * holder lose its lock, cuts a watch, loses a response or cuts the client off: at a call it names, or at random by a
 * seed. It injects nothing that the contract does not allow a real store to do. So a program that cannot cope with a
 * fault has a bug that production will find. All time is the `Clock`'s: under the `TestClock` nothing waits for real.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as DistLock from "@effect-kv/core/DistLock"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { Fault } from "./faults/fault.ts"
import type { CutOptions, Injected, Injection, RandomOptions, Where } from "./faults/faultOptions.ts"
import { FaultyClient } from "./faults/faultyClient.ts"

export { isWrite, reads, writes } from "./BackendCall.ts"
export type { Call } from "./BackendCall.ts"
export {
  applyLate,
  delayRequest,
  delayResponse,
  loseRequest,
  loseResponse,
  silently,
  unavailable
} from "./faults/fault.ts"
export type { Fault, Loss } from "./faults/fault.ts"
export type { CutOptions, Injected, Injection, RandomOptions, Where } from "./faults/faultOptions.ts"

/**
 * A call that is held on its way.
 *
 * @since 0.1.0
 */
export interface Hold {
  /** Waits until a call is held. */
  readonly reached: Effect.Effect<void>
  /** Lets the call continue. */
  readonly letGo: Effect.Effect<void>
}

/**
 * How a client is cut off from the store.
 *
 * @since 0.1.0
 */
export interface PartitionOptions {
  /**
   * What happens to requests. Default: `lost`.
   *
   * - `lost`: requests do not arrive, and callers wait until their deadline. A write is then `Indeterminate`.
   * - `late`: the same, but requests arrive when the link is healed, as TCP retransmits them.
   * - `refused`: there is no connection and nothing leaves. At its deadline a call is `Unavailable`.
   */
  readonly requests?: "lost" | "late" | "refused" | undefined
}

/**
 * Faults of one client of a store.
 *
 * @since 0.1.0
 */
export interface KvFaults {
  /** The client. Its sessions, locks and temporary keys go through the faults too. */
  readonly kv: Kv.Kv
  /** The same client, as a backend. */
  readonly backend: KvBackend

  /**
   * Injects a fault into the calls that `where` selects; default: the next call.
   *
   * A call is struck by at most one injection, the oldest that is due. Two injections that select the same calls strike
   * one after the other. An `nth` or `times` that is not a positive integer is a defect.
   */
  readonly inject: (fault: Fault, where?: Where) => Effect.Effect<Injection>

  /**
   * Holds a call, so that the test can act in between: its request on the way to the store, or its response on the way
   * back.
   *
   * **Details**
   *
   * A held request counts as sent. Even if its caller is interrupted, it arrives once it is let go.
   */
  readonly hold: (what: "request" | "response", where?: Where) => Effect.Effect<Hold>

  /**
   * Makes the holder of the lock lose it, and returns that holder. `by` says how. `lease`: the holder's lease ends, with
   * everything bound to it. `key`: its key is deleted. Default: `lease`. It is a defect if no client holds the lock.
   *
   * **Details**
   *
   * The loss happens in the store, whichever client holds the lock. The holder learns of it over its own link. To keep
   * the holder from learning it, cut its watches or partition it before. The name is the store's: in a namespace it
   * includes the prefix.
   */
  readonly loseLock: (name: string, by?: "lease" | "key") => Effect.Effect<DistLock.Contender, KvError.KvError>

  /** The leases that the client was granted and that have not ended, as far as the client knows. */
  readonly leases: Effect.Effect<ReadonlyArray<bigint>>

  /** Ends a lease in the store, as if it had expired. Fails with `LeaseNotFound` if it has ended. */
  readonly endLease: (id: bigint) => Effect.Effect<void, KvError.KvError>

  /** Cuts the client's watches, and returns how many. They resume by themselves, without a gap. */
  readonly cutWatches: (options?: CutOptions) => Effect.Effect<number>

  /** Cuts the client off from the store until {@link heal}. Its watches are cut as well. */
  readonly partition: (options?: PartitionOptions) => Effect.Effect<void>

  /** Ends a partition. Calls that still wait for a response find their connection broken: a read is repeated. */
  readonly heal: Effect.Effect<void>

  /**
   * Makes faults strike at random from now on, instead of the previous random faults.
   *
   * The same seed injects the same faults as long as the same calls are made in the same order. A rate outside 0 to 1
   * is a defect.
   */
  readonly randomly: (options: RandomOptions) => Effect.Effect<void>

  /**
   * Ends all faults: injections and random faults stop, held calls continue, a partition heals. Delays that began
   * continue.
   */
  readonly calm: Effect.Effect<void>

  /** Every fault so far, in order. */
  readonly injected: Effect.Effect<ReadonlyArray<Injected>>
}

/**
 * The service tag of the faults of a client.
 *
 * @since 0.1.0
 */
export const KvFaults: Context.Service<KvFaults, KvFaults> = Context.Service<KvFaults>(
  "@effect-kv/test-suite/KvFaults"
)

/**
 * Options of a client with faults.
 *
 * @since 0.1.0
 */
export interface Options {
  /** The deadline of calls without one of their own, for faults that wait for it. Default: 5 seconds. */
  readonly deadline?: Duration.Input | undefined
  /** Random faults from the beginning. Default: none. */
  readonly random?: RandomOptions | undefined
}

/**
 * Makes a client with faults of a backend.
 *
 * **When to use**
 *
 * To simulate several processes, each with its own faults: make one for each connection to the same store.
 *
 * **Details**
 *
 * When the scope closes, all faults end first and calls in flight are dropped, so a test that ends in a partition does
 * not hang.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { KvFaults } from "@effect-kv/test-suite/testing"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const healthy = yield* Effect.flatMap(store.connect, Kv.make)
 *   const faults = yield* Effect.flatMap(store.connect, KvFaults.make)
 *   yield* faults.partition({ requests: "refused" })
 *   yield* healthy.put("a", "1")
 *   yield* faults.heal
 *   yield* faults.kv.get("a") // => Option.some("1")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  store: KvBackend,
  options?: Options
): Effect.fn.Return<KvFaults, never, Scope.Scope> {
  const operator = yield* Kv.make(store)
  const link = yield* Scope.make()
  const client = new FaultyClient(
    store,
    Duration.fromInputUnsafe(options?.deadline ?? Deadline.defaultDeadline),
    link
  )
  const kv = yield* Kv.make(client.backend)
  // The last finalizer runs first: closing `kv` must not wait for requests in flight.
  yield* Effect.addFinalizer((exit) => Effect.andThen(client.calm, Scope.close(link, exit)))
  const faults: KvFaults = {
    kv,
    backend: client.backend,
    inject: (fault, where) => Effect.sync(() => client.inject(fault, where)),
    hold: (what, where) => Effect.sync(() => hold(client, what, where)),
    loseLock: (name, by = "lease") => Effect.provideService(loseLock(client, name, by), Kv.Kv, operator),
    leases: Effect.sync(() => [...client.leases]),
    endLease: (id) => client.endLease(id),
    cutWatches: (options) => client.cutWatches(options),
    partition: (options) => client.partition(options?.requests ?? "lost"),
    heal: client.heal,
    randomly: (options) => Effect.sync(() => client.randomly(options)),
    calm: client.calm,
    injected: Effect.sync(() => [...client.injected])
  }
  if (options?.random !== undefined) yield* faults.randomly(options.random)
  return faults
})

/**
 * Puts faults between a store and a program: provides the `Kv` under test, and the `KvFaults` that control its faults.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryLayer } from "@effect-kv/memory"
 * import { KvFaults } from "@effect-kv/test-suite/testing"
 * import { Effect, Layer } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const faults = yield* KvFaults.KvFaults
 *   yield* faults.inject(KvFaults.loseResponse, { when: KvFaults.writes("a") })
 *   const error = yield* Effect.flip(Kv.put("a", "1"))
 *   error.reason._tag // => "Indeterminate"
 *   yield* Kv.get("a") // => Option.some("1")
 * }).pipe(Effect.provide(KvFaults.layer().pipe(Layer.provide(MemoryLayer.layer))))
 * ```
 *
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<Kv.Kv | KvFaults, never, Kv.Kv> =>
  Layer.effectContext(
    Effect.map(
      Effect.flatMap(Kv.Kv, (kv) => make(backendOf(kv), options)),
      (faults) => Context.add(Context.make(KvFaults, faults), Kv.Kv, faults.kv)
    )
  )

const hold = (client: FaultyClient, what: "request" | "response", where: Where | undefined): Hold => {
  const reached = Deferred.makeUnsafe<void>()
  const free = Deferred.makeUnsafe<void>()
  const stop = Effect.andThen(Deferred.succeed(reached, undefined), Deferred.await(free))
  const letGo = Effect.asVoid(Deferred.succeed(free, undefined))
  client.inject(
    { description: `${what} held`, ...(what === "request" ? { onRequest: stop } : { onResponse: stop }) },
    where
  )
  client.holds.add(letGo)
  return {
    reached: Deferred.await(reached),
    letGo: Effect.andThen(Effect.sync(() => client.holds.delete(letGo)), letGo)
  }
}

const loseLock = Effect.fnUntraced(function*(client: FaultyClient, name: string, by: "lease" | "key") {
  const holder = yield* DistLock.holder(name)
  if (Option.isNone(holder)) return yield* Effect.die(new Error(`no client holds the lock ${JSON.stringify(name)}`))
  const { key, lease } = holder.value
  if (by === "lease" && Option.isSome(lease)) yield* client.endLease(lease.value, `lock ${name} lost by its lease`)
  else yield* client.deleteKey(key, `lock ${name} lost by its key`)
  return holder.value
})
