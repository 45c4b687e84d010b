/**
 * Faults for your own tests: a store seen through a link on which you decide what goes wrong, and when.
 *
 * `KvFaults.layer` stands between a backend's layer and your program. The test takes the `KvFaults` service from the
 * environment, and with it loses a lock, cuts a watch, loses an answer, cuts the client off; at a call it names, or at
 * random by a seed. It injects nothing that the contract does not allow a real store to do, so a program that cannot
 * stand it has a bug that production will find. All time is the `Clock`'s: under `TestClock` nothing waits for real.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as DistLock from "@effect-kv/core/DistLock"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type * as KvError from "@effect-kv/core/KvError"
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
export { applyLate, delayAnswer, delayRequest, loseAnswer, loseRequest, silently, unavailable } from "./faults/fault.ts"
export type { Fault, Loss } from "./faults/fault.ts"
export type { CutOptions, Injected, Injection, RandomOptions, Where } from "./faults/faultOptions.ts"

/** A call that is held up on its way. */
export interface Hold {
  /** Waits until the call has got there. */
  readonly reached: Effect.Effect<void>
  /** Lets it go on. */
  readonly letGo: Effect.Effect<void>
}

/** How a client is cut off from the store. */
export interface PartitionOptions {
  /**
   * `lost`: what is sent gets nowhere, and the caller waits for an answer until its deadline: a write is `Indeterminate`.
   * `late`: the same, but it arrives when the link is healed, as what a TCP connection repeats does. `refused`: nothing
   * leaves, for there is no connection: what has not left at its deadline is `Unavailable`. Default: `lost`.
   */
  readonly requests?: "lost" | "late" | "refused" | undefined
}

/** What a test does to one client of a store. */
export interface KvFaults {
  /** The client: its sessions, locks and temporary keys go through the faults too. */
  readonly kv: Kv.Kv
  /** The same, as a backend. */
  readonly backend: KvBackend

  /**
   * Lets a fault strike the calls it names: the next one, if it names none. A call is struck by one injection at most, the
   * oldest that is due; so two that name the same calls strike one after the other. A `nth` or `times` that is no positive
   * number is a defect.
   */
  readonly inject: (fault: Fault, where?: Where) => Effect.Effect<Injection>

  /**
   * Holds a call up: its request before it arrives, or its answer before it is back. For what has to happen in between.
   *
   * **Details**
   *
   * A request that is held has left. Though its caller be interrupted, it arrives when it is let go.
   */
  readonly hold: (what: "request" | "answer", where?: Where) => Effect.Effect<Hold>

  /**
   * Makes whoever holds the lock lose it, and answers with who that was. `lease`: its lease ends, and everything on it.
   * `key`: its key is deleted. Default: `lease`. That nobody holds it is a defect.
   *
   * **Details**
   *
   * It is done in the store, behind the back of the client that holds it, whichever that is. What the holder hears of it
   * comes by its own link; to have it not hear, cut its watches or partition it before. The name is the store's: in a
   * namespace it has the prefix.
   */
  readonly loseLock: (name: string, by?: "lease" | "key") => Effect.Effect<DistLock.Contender, KvError.KvError>

  /** The leases that the client has been granted and that have not ended, as far as it was told. */
  readonly leases: Effect.Effect<ReadonlyArray<bigint>>

  /** Ends a lease in the store, as if its time were over; `LeaseNotFound` if it has ended. */
  readonly endLease: (id: bigint) => Effect.Effect<void, KvError.KvError>

  /** Cuts the client's watches, and answers with how many. They go on by themselves, without a gap. */
  readonly cutWatches: (options?: CutOptions) => Effect.Effect<number>

  /** Cuts the client off from the store, until {@link heal}. Its watches are cut as well. */
  readonly partition: (options?: PartitionOptions) => Effect.Effect<void>

  /** Ends a partition. What still waits for an answer finds its connection broken: a read is repeated. */
  readonly heal: Effect.Effect<void>

  /**
   * From now on faults strike at random, in place of those that did before. The same seed, the same faults, as long as the
   * same calls are made in the same order. A rate that is not from 0 to 1 is a defect.
   */
  readonly randomly: (options: RandomOptions) => Effect.Effect<void>

  /** No faults any more: injections and random faults end, holds let go, a partition heals. Delays go on. */
  readonly calm: Effect.Effect<void>

  /** Everything that was injected so far, in order: what struck a call, and what was done to the client. */
  readonly injected: Effect.Effect<ReadonlyArray<Injected>>
}

/** The service tag. */
export const KvFaults: Context.Service<KvFaults, KvFaults> = Context.Service<KvFaults>(
  "@effect-kv/test-suite/KvFaults"
)

/** Options of a client. */
export interface Options {
  /** The deadline of calls that do not say, in faults. Default: 5 seconds. */
  readonly deadline?: Duration.Input | undefined
  /** Faults at random from the beginning. */
  readonly random?: RandomOptions | undefined
}

/**
 * Makes a client with faults of a store. Several of one store, each with faults of its own, play several processes.
 *
 * When the scope closes, first of all everything calms down, and what is on its way is dropped: a test that ends in a
 * partition does not hang.
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
  // The last to be added runs first: what is still on its way must not be waited for by what the end of `kv` does.
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
 * Puts faults between a store and a program: provides the `Kv` to be tested, and the `KvFaults` to test it with.
 *
 * ```ts nocheck
 * program.pipe(Effect.provide(KvFaults.layer().pipe(Layer.provide(MemoryLayer.layer))))
 * ```
 */
export const layer = (options?: Options): Layer.Layer<Kv.Kv | KvFaults, never, Kv.Kv> =>
  Layer.effectContext(
    Effect.map(
      Effect.flatMap(Kv.Kv, (kv) => make(kv.backend, options)),
      (faults) => Context.add(Context.make(KvFaults, faults), Kv.Kv, faults.kv)
    )
  )

const hold = (client: FaultyClient, what: "request" | "answer", where: Where | undefined): Hold => {
  const reached = Deferred.makeUnsafe<void>()
  const free = Deferred.makeUnsafe<void>()
  const stop = Effect.andThen(Deferred.succeed(reached, undefined), Deferred.await(free))
  const letGo = Effect.asVoid(Deferred.succeed(free, undefined))
  client.inject(
    { description: `${what} held`, ...(what === "request" ? { onRequest: stop } : { onAnswer: stop }) },
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
  if (Option.isNone(holder)) return yield* Effect.die(new Error(`nobody holds the lock ${JSON.stringify(name)}`))
  const { key, lease } = holder.value
  if (by === "lease" && Option.isSome(lease)) yield* client.endLease(lease.value, `lock ${name} lost by its lease`)
  else yield* client.deleteKey(key, `lock ${name} lost by its key`)
  return holder.value
})
