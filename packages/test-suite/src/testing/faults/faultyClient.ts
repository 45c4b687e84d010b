/**
 * One client of a store, with the faults that wait for its calls. `KvFaults` is its public face.
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
import { type Accident, RandomFaults } from "./randomFaults.ts"

/** An injection, and the calls it has to strike. */
interface Waiting {
  readonly fault: Fault
  readonly when: (call: Call.Call) => boolean
  readonly first: number
  readonly times: number
  readonly struck: Deferred.Deferred<void>
  seen: number
  count: number
}

/** What becomes of requests while the client is cut off. */
type Partition = "lost" | "late" | "refused"

export class FaultyClient {
  readonly backend: KvBackend
  readonly leases = new Set<bigint>()
  readonly injected: Array<Injected> = []
  /** Let go what is held. */
  readonly holds = new Set<Effect.Effect<void>>()
  readonly #store: KvBackend
  readonly #link: faultyCall.Link
  readonly #watches = new Set<faultyWatch.FaultyWatch>()
  readonly #waiting = new Set<Waiting>()
  readonly #healed = Latch.makeUnsafe(true)
  /** Opens when those who wait in silence are to hear that the connection is broken. */
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
    const waiting: Waiting = {
      fault,
      when: where?.when ?? (() => true),
      first: where?.nth ?? 1,
      times: where?.times ?? 1,
      struck: Deferred.makeUnsafe(),
      seen: 0,
      count: 0
    }
    this.#waiting.add(waiting)
    return {
      struck: Deferred.await(waiting.struck),
      count: Effect.sync(() => waiting.count),
      remove: Effect.sync(() => {
        this.#waiting.delete(waiting)
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
    this.#waiting.clear()
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
        // It was on its way when the client was cut off.
        Effect.tap((watch) => this.#partition === undefined ? Effect.void : ofItsOwn(watch.cut(cutOff))),
        Effect.map((watch) => watch.watcher)
      )
  }

  /** Makes a call with the fault that strikes it, if any does, after what happens at it. */
  #withFault<A, R>(
    call: Call.Call,
    make: (fault: Fault | undefined) => Effect.Effect<A, KvError.KvError, R>
  ): Effect.Effect<A, KvError.KvError, R> {
    return Effect.suspend(() => {
      const injected = this.#strike(call)
      const accident = this.#random?.strike(call)
      const fault = injected ?? accident?.fault
      if (fault !== undefined) this.#note(fault.description, call)
      const made = make(fault ?? (this.#partition === undefined ? undefined : partitioned))
      return accident === undefined ? made : Effect.andThen(this.#happen(accident, call), made)
    })
  }

  /** The fault of the oldest injection that is due. The others see the call, and stay due. */
  #strike(call: Call.Call): Fault | undefined {
    let due: Waiting | undefined
    for (const waiting of this.#waiting) {
      if (waiting.when(call) && ++waiting.seen >= waiting.first) due ??= waiting
    }
    if (due === undefined) return undefined
    if (++due.count >= due.times) this.#waiting.delete(due)
    Deferred.doneUnsafe(due.struck, Effect.void)
    return due.fault
  }

  #happen({ cutFor, endLeaseAt }: Accident, call: Call.Call): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      if (cutFor !== undefined) {
        this.#note(`watches cut for ${Duration.toMillis(cutFor)} ms`, call)
        yield* this.#cutFor(cutFor, false, undefined)
      }
      if (endLeaseAt !== undefined) yield* ofItsOwn(this.#endSomeLease(endLeaseAt))
    })
  }

  /** One that lives: of those that were granted many have ended since, unheard of by the client. */
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
      message: "the connection was cut, says the test",
      until: Effect.sleep(duration),
      isCompacted,
      failure: failure === undefined ? undefined : KvError.make(failure)
    })
  }

  #cut(which: (request: WatchRequest) => boolean, cut: faultyWatch.Cut): Effect.Effect<number> {
    return Effect.suspend(() => {
      const watches = [...this.#watches].filter((watch) => which(watch.request))
      return Effect.as(ofItsOwn(Effect.forEach(watches, (watch) => watch.cut(cut))), watches.length)
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

  /** Keeps account of the leases, at the store: what was granted though the answer is lost is granted. */
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

/** Of a call that nothing strikes while the client is cut off. */
const partitioned: Fault = { description: "partitioned" }

/** How watches are cut while the client is cut off: they are connected again when it is not. */
const cutOff: faultyWatch.Cut = {
  message: "the client is cut off from the store, says the test",
  until: Effect.void,
  isCompacted: false
}

/** Not a part of the call that it happens at: neither its deadline nor what became of its request concerns this. */
const ofItsOwn = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  effect.pipe(
    Effect.provideService(Deadline.Deadline, undefined),
    Effect.provideService(SendControl.Current, undefined)
  )
