/**
 * A client of a store whose calls go through faults. `KvFaults` is its public API.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as SendControl from "@effect-kv/core/SendControl"
import type { Watcher, WatchRequest } from "@effect-kv/core/Watch"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import * as Call from "../BackendCall.ts"
import type { Fault } from "./fault.ts"
import type { CutOptions, Injected, Injection, RandomOptions, Where } from "./faultOptions.ts"
import { checkRandom, checkWhere } from "./faultOptions.ts"
import * as faultyCall from "./faultyCall.ts"
import * as faultyWatch from "./faultyWatch.ts"
import { type RandomEvents, RandomFaults } from "./randomFaults.ts"

/** An injection, and which calls it strikes. */
interface PendingInjection {
  readonly fault: Fault
  readonly when: (call: Call.Call) => boolean
  readonly first: number
  readonly times: number
  readonly struck: Deferred.Deferred<void>
  seen: number
  count: number
}

/** What happens to requests during a partition. */
type Partition = "lost" | "late" | "refused"

export class FaultyClient {
  readonly backend: KvBackend
  readonly leases = new Set<bigint>()
  readonly injected: Array<Injected> = []
  /** Effects that let held calls continue. */
  readonly holds = new Set<Effect.Effect<void>>()
  readonly #store: KvBackend
  readonly #link: faultyCall.Link
  readonly #watches = new Set<faultyWatch.FaultyWatch>()
  readonly #pending = new Set<PendingInjection>()
  readonly #healed = Latch.makeUnsafe(true)
  /** Opens when callers that wait after a silent loss notice that the connection is broken. */
  #silence = Latch.makeUnsafe()
  #partition: Partition | undefined = undefined
  #random: RandomFaults | undefined = undefined

  constructor(store: KvBackend, deadline: Duration.Duration, scope: Scope.Scope) {
    this.#store = this.#noticingLeases(store)
    this.#link = {
      leave: Effect.suspend(() => this.#partition === "refused" ? this.#healed.await : Effect.void),
      cross: Effect.suspend(() => {
        if (this.#partition === undefined) return Effect.succeed("through")
        return this.#partition === "lost" ? Effect.succeed("lost") : Effect.as(this.#healed.await, "through")
      }),
      silence: Effect.suspend(() => this.#silence.await),
      deadline,
      scope
    }
    this.backend = {
      ...Call.around((call, effect) => this.#through(call, effect))(this.#store),
      watch: (request) => this.#watch(request)
    }
  }

  inject(fault: Fault, where: Where | undefined): Injection {
    checkWhere(where ?? {})
    const pending: PendingInjection = {
      fault,
      when: where?.when ?? (() => true),
      first: where?.nth ?? 1,
      times: where?.times ?? 1,
      struck: Deferred.makeUnsafe(),
      seen: 0,
      count: 0
    }
    this.#pending.add(pending)
    return {
      struck: Deferred.await(pending.struck),
      count: Effect.sync(() => pending.count),
      remove: Effect.sync(() => {
        this.#pending.delete(pending)
      })
    }
  }

  randomly(options: RandomOptions): void {
    checkRandom(options)
    this.#random = new RandomFaults(options)
  }

  endLease(id: bigint, description = `lease ${id.toString(16)} ended`): Effect.Effect<void, KvError.KvError> {
    return Effect.tap(this.#store.leaseRevoke(id), () => Effect.sync(() => this.#note(description)))
  }

  deleteKey(key: string, description: string): Effect.Effect<unknown, KvError.KvError> {
    return Effect.tap(this.#store.execute(Op.delete(key)), () => Effect.sync(() => this.#note(description)))
  }

  cutWatches(options: CutOptions | undefined): Effect.Effect<number> {
    return Effect.suspend(() => {
      const duration = Duration.fromInputUnsafe(options?.duration ?? 0)
      const isCompacted = options?.compacted === true
      this.#note(
        `watches cut for ${Duration.toMillis(duration)} ms${isCompacted ? ", and compacted" : ""}${
          options?.failure === undefined ? "" : `, and failed with ${options.failure._tag}`
        }`
      )
      return this.#cutFor(duration, isCompacted, options?.when, options?.failure)
    })
  }

  partition(how: Partition): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#note(`partitioned, requests are ${how}`)
      this.#partition = how
      this.#healed.closeUnsafe()
      return Effect.asVoid(this.#cut(() => true, cutOff))
    })
  }

  readonly heal: Effect.Effect<void> = Effect.sync(() => {
    if (this.#partition === undefined) return
    this.#note("healed")
    this.#partition = undefined
    this.#healed.openUnsafe()
    this.#breakSilence()
  })

  readonly calm: Effect.Effect<void> = Effect.suspend(() => {
    this.#pending.clear()
    this.#random = undefined
    const holds = [...this.holds]
    this.holds.clear()
    this.#breakSilence()
    return Effect.andThen(Effect.all(holds), this.heal)
  })

  #through<A, R>(call: Call.Call, effect: Effect.Effect<A, KvError.KvError, R>): Effect.Effect<A, KvError.KvError, R> {
    return this.#withFault(
      call,
      (fault) => fault === undefined ? effect : faultyCall.make(call, effect, fault, this.#link)
    )
  }

  #watch(request: WatchRequest): Effect.Effect<Watcher, KvError.KvError, Scope.Scope> {
    return this.#withFault({ kind: "watch", request }, (fault) =>
      faultyWatch.open(
        this.#store,
        request,
        (opening) => fault === undefined ? opening : faultyCall.open(opening, fault, this.#link),
        this.#healed.await,
        Effect.suspend(() => this.#random?.eventDelay ?? Effect.void)
      )).pipe(
        Effect.tap((watch) =>
          Effect.acquireRelease(
            Effect.sync(() => this.#watches.add(watch)),
            () => Effect.sync(() => this.#watches.delete(watch))
          )
        ),
        // The partition began while the watch was being opened.
        Effect.tap((watch) => this.#partition === undefined ? Effect.void : independently(watch.cut(cutOff))),
        Effect.map((watch) => watch.watcher)
      )
  }

  /** Makes a call with the fault that strikes it, if any, after the random events that happen at it. */
  #withFault<A, R>(
    call: Call.Call,
    make: (fault: Fault | undefined) => Effect.Effect<A, KvError.KvError, R>
  ): Effect.Effect<A, KvError.KvError, R> {
    return Effect.suspend(() => {
      const injected = this.#strike(call)
      const random = this.#random?.strike(call)
      const fault = injected ?? random?.fault
      if (fault !== undefined) this.#note(fault.description, call)
      const made = make(fault ?? (this.#partition === undefined ? undefined : partitioned))
      return random === undefined ? made : Effect.andThen(this.#happen(random, call), made)
    })
  }

  /** The fault of the oldest due injection. The others count the call and stay due. */
  #strike(call: Call.Call): Fault | undefined {
    let due: PendingInjection | undefined
    for (const pending of this.#pending) {
      if (pending.when(call) && ++pending.seen >= pending.first) due ??= pending
    }
    if (due === undefined) return undefined
    if (++due.count >= due.times) this.#pending.delete(due)
    Deferred.doneUnsafe(due.struck, Effect.void)
    return due.fault
  }

  #happen({ cutFor, endLeaseAt }: RandomEvents, call: Call.Call): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      if (cutFor !== undefined) {
        this.#note(`watches cut for ${Duration.toMillis(cutFor)} ms`, call)
        yield* this.#cutFor(cutFor, false, undefined)
      }
      if (endLeaseAt !== undefined) yield* independently(this.#endSomeLease(endLeaseAt))
    })
  }

  /** Ends a live lease. Many of the granted leases have ended without the client noticing. */
  #endSomeLease(at: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      const lease = [...this.leases][Math.floor(at * this.leases.size)]
      return lease === undefined ? Effect.void : Effect.catch(
        this.endLease(lease),
        ({ reason }) => reason._tag === "LeaseNotFound" ? this.#endSomeLease(at) : Effect.void
      )
    })
  }

  #cutFor(
    duration: Duration.Duration,
    isCompacted: boolean,
    when: CutOptions["when"],
    failure?: CutOptions["failure"]
  ): Effect.Effect<number> {
    return this.#cut(when ?? (() => true), {
      message: "KvFaults: the connection was cut",
      until: Effect.sleep(duration),
      isCompacted,
      failure: failure === undefined ? undefined : KvError.make(failure)
    })
  }

  #cut(which: (request: WatchRequest) => boolean, cut: faultyWatch.Cut): Effect.Effect<number> {
    return Effect.suspend(() => {
      const watches = [...this.#watches].filter((watch) => which(watch.request))
      return Effect.as(independently(Effect.forEach(watches, (watch) => watch.cut(cut))), watches.length)
    })
  }

  #breakSilence(): void {
    const silence = this.#silence
    this.#silence = Latch.makeUnsafe()
    silence.openUnsafe()
  }

  #note(description: string, call?: Call.Call): void {
    this.injected.push({ description, call })
  }

  /** Tracks leases at the store, because a lease is granted even if the response is lost. */
  #noticingLeases(store: KvBackend): KvBackend {
    const gone = (id: bigint) => Effect.sync(() => this.leases.delete(id))
    const goneIfNotFound = (id: bigint) => (error: KvError.KvError) =>
      error.reason._tag === "LeaseNotFound" ? gone(id) : Effect.void
    return {
      ...store,
      leaseGrant: (options) =>
        Effect.tap(store.leaseGrant(options), ({ id }) => Effect.sync(() => this.leases.add(id))),
      leaseRevoke: (id) => store.leaseRevoke(id).pipe(Effect.tap(() => gone(id)), Effect.tapError(goneIfNotFound(id))),
      leaseKeepAlive: (id) => Effect.tapError(store.leaseKeepAlive(id), goneIfNotFound(id))
    }
  }
}

/** The fault of calls that no other fault strikes during a partition. */
const partitioned: Fault = { description: "partitioned" }

/** The cut of watches during a partition. They are reconnected when it heals. */
const cutOff: faultyWatch.Cut = {
  message: "KvFaults: the client is partitioned from the store",
  until: Effect.void,
  isCompacted: false
}

/** Runs an effect independently of the current call: without its deadline and its send control. */
const independently = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  effect.pipe(
    Effect.provideService(Deadline.Deadline, undefined),
    Effect.provideService(SendControl.Current, undefined)
  )
