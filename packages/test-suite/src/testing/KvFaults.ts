/**
 * Faults for tests of applications: a link to a store on which the test decides what goes wrong, and when.
 *
 * Put `KvFaults.layer` between the layer of a backend and the program. The test takes the `KvFaults` service from the
 * environment. With it the test loses a lock, cuts a watch, loses a response or partitions the client, at chosen calls or at
 * random from a seed. Every injected fault is one that the contract allows a real store to show, so a program that fails
 * under it has a bug. All times use Effect's `Clock`: under `TestClock` no test waits in real time.
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
export { applyLate, delayAnswer, delayRequest, loseAnswer, loseRequest, silently, unavailable } from "./faults/fault.ts"
export type { Fault, Loss } from "./faults/fault.ts"
export type { CutOptions, Injected, Injection, RandomOptions, Where } from "./faults/faultOptions.ts"

/** A call that is held in flight. */
export interface Hold {
  /** Waits until the call is held. */
  readonly reached: Effect.Effect<void>
  /** Lets the call continue. */
  readonly letGo: Effect.Effect<void>
}

/** Options of a partition between the client and the store. */
export interface PartitionOptions {
  /**
   * What happens to requests. Default: `lost`.
   *
   * - `lost`: requests are sent and lost, and callers wait until their deadline. A write is `Indeterminate`.
   * - `late`: the same, but requests arrive when the partition heals, like bytes that TCP retransmits.
   * - `refused`: there is no connection, and requests are not sent. At the deadline they fail with `Unavailable`.
   */
  readonly requests?: "lost" | "late" | "refused" | undefined
}

/** The faults of one client of a store. */
export interface KvFaults {
  /** The client. Its sessions, locks and temporary keys go through the faults too. */
  readonly kv: Kv.Kv
  /** The client as a backend. */
  readonly backend: KvBackend

  /**
   * Injects a fault into the selected calls. Default: the next call.
   *
   * **Details**
   *
   * At most one injection strikes a call: the oldest that is due. Two injections for the same calls strike one after the
   * other. It is a defect if `nth` or `times` is not a positive integer.
   */
  readonly inject: (fault: Fault, where?: Where) => Effect.Effect<Injection>

  /**
   * Holds a call in flight: its request before it arrives at the store, or its response before it arrives at the client.
   *
   * **Details**
   *
   * A held request has been sent. It arrives when it is let go, even if its caller was interrupted meanwhile.
   */
  readonly hold: (what: "request" | "answer", where?: Where) => Effect.Effect<Hold>

  /**
   * Takes the lock from its holder, and returns the former holder.
   *
   * **Details**
   *
   * `lease` (the default) revokes the holder's lease with all its keys, `key` deletes the holder's key. This happens in the
   * store, whichever client is the holder. The holder learns of it over its own link: to prevent that, cut its watches or
   * partition it first. The name is the full name in the store, so in a namespace it includes the prefix. It is a defect if
   * the lock is not held.
   */
  readonly loseLock: (name: string, by?: "lease" | "key") => Effect.Effect<DistLock.Contender, KvError.KvError>

  /** The leases granted to the client that have not ended, as far as the client knows. */
  readonly leases: Effect.Effect<ReadonlyArray<bigint>>

  /** Ends a lease in the store, as if it had expired. Fails with `LeaseNotFound` if it has already ended. */
  readonly endLease: (id: bigint) => Effect.Effect<void, KvError.KvError>

  /** Cuts the client's watches, and returns how many. They resume by themselves, without a gap. */
  readonly cutWatches: (options?: CutOptions) => Effect.Effect<number>

  /** Partitions the client from the store until `heal`. Its watches are cut as well. */
  readonly partition: (options?: PartitionOptions) => Effect.Effect<void>

  /** Ends a partition. For calls still in flight the connection breaks, so reads are retried. */
  readonly heal: Effect.Effect<void>

  /**
   * Injects random faults from now on, replacing earlier random faults.
   *
   * **Details**
   *
   * The same seed gives the same faults if the same calls are made in the same order. It is a defect if a rate is not from
   * 0 to 1.
   */
  readonly randomly: (options: RandomOptions) => Effect.Effect<void>

  /** Ends all faults: injections and random faults stop, held calls continue, a partition heals. Delays in progress finish. */
  readonly calm: Effect.Effect<void>

  /** All faults so far, in order: those that struck a call, and those of the client. */
  readonly injected: Effect.Effect<ReadonlyArray<Injected>>
}

/** The service tag. */
export const KvFaults: Context.Service<KvFaults, KvFaults> = Context.Service<KvFaults>(
  "@effect-kv/test-suite/KvFaults"
)

/** Options of a client. */
export interface Options {
  /** The deadline, under faults, of calls without one. Default: 5 seconds. */
  readonly deadline?: Duration.Input | undefined
  /** Random faults from the start. */
  readonly random?: RandomOptions | undefined
}

/**
 * Makes a client of a store, with its own faults. Several clients of one store simulate several processes.
 *
 * When the scope closes, all faults end first and requests in flight are dropped, so a test that ends in a partition does
 * not hang.
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
 * Puts faults between a store and a program: provides the `Kv` of the program and the `KvFaults` that control it.
 *
 * ```ts
 * program.pipe(Effect.provide(KvFaults.layer().pipe(Layer.provide(MemoryLayer.layer))))
 * ```
 */
export const layer = (options?: Options): Layer.Layer<Kv.Kv | KvFaults, never, Kv.Kv> =>
  Layer.effectContext(
    Effect.map(
      Effect.flatMap(Kv.Kv, (kv) => make(backendOf(kv), options)),
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
  if (Option.isNone(holder)) return yield* Effect.die(new Error(`no client holds the lock ${JSON.stringify(name)}`))
  const { key, lease } = holder.value
  if (by === "lease" && Option.isSome(lease)) yield* client.endLease(lease.value, `lock ${name} lost by its lease`)
  else yield* client.deleteKey(key, `lock ${name} lost by its key`)
  return holder.value
})
