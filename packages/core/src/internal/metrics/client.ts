/**
 * The metrics of what a client keeps with leases: its sessions, locks and temporary keys.
 *
 * A series is made on its first use, except those that alerts look at for an increase, such as counters of losses: they
 * begin at 0 with what can be lost, because a series that begins at 1 is not an increase to Prometheus. Gauges are
 * removed when the client closes.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as KvError from "../../values/KvError.ts"
import type { LockKind } from "../values/lockKind.ts"
import { monotonicMillis } from "../values/monotonic.ts"
import type { Histogram } from "./cells.ts"
import type { Definition } from "./definition.ts"
import * as definitions from "./definitions.ts"
import { Meter } from "./meter.ts"

/** Why a lock or a session was lost: a bounded set. */
export type LossCause = "NotRenewed" | "LeaseEnded" | "KeyDeleted" | "Rejected"

/** The causes for which a session, a lock or a temporary key can be lost. */
const sessionCauses = ["NotRenewed", "LeaseEnded"] as const
const lockCauses = [...sessionCauses, "KeyDeleted", "Rejected"] as const
const tempKeyCauses = ["Lost", "Taken"] as const

/** A live session, as the metrics see it. */
export interface LiveSession {
  /** The part of its time to live that is left, from 0 to 1. */
  readonly margin: () => number
}

/** The locks of one kind. */
interface Locks {
  readonly kind: LockKind
  held: number
  waiting: number
  /** The waits that ended with the lock; `undefined` if none is waited for. */
  readonly acquired: Histogram | undefined
  /** Made on first use. */
  hold: Histogram | undefined
}

/** The metrics of one client. */
export class ClientMetrics {
  readonly #meter: Meter
  readonly #clock: Clock.Clock
  readonly #sessions = new Set<LiveSession>()
  readonly #locks = new Map<LockKind, Locks>()
  readonly #removals: Array<() => void> = []
  #tempKeys: { held: number } | undefined
  #hasSessionGauges = false

  constructor(meter: Meter, clock: Clock.Clock) {
    this.#meter = meter
    this.#clock = clock
  }

  /** The smallest margin of the live sessions; `undefined` without one. */
  get margin(): number | undefined {
    let smallest: number | undefined
    for (const session of this.#sessions) {
      const margin = session.margin()
      if (smallest === undefined || margin < smallest) smallest = margin
    }
    return smallest
  }

  /** Removes the gauges. */
  close(): void {
    for (const remove of this.#removals.splice(0)) remove()
  }

  // ---------------------------------------------------------------------------
  // sessions
  // ---------------------------------------------------------------------------

  /** A session has begun. Returns the function to call once it has ended, with the cause if it was lost. */
  sessionBegan(session: LiveSession): (cause: LossCause | undefined) => void {
    if (!this.#hasSessionGauges) {
      this.#hasSessionGauges = true
      this.#gauge(definitions.sessions, {}, () => this.#sessions.size)
      this.#gauge(definitions.sessionMargin, {}, () => this.margin ?? 1)
      for (const cause of sessionCauses) this.#meter.counter(definitions.sessionsLost, { cause })
    }
    this.#sessions.add(session)
    return (cause) => {
      if (!this.#sessions.delete(session) || cause === undefined) return
      this.#meter.counter(definitions.sessionsLost, { cause }).add()
    }
  }

  /** A session was renewed when it had so many milliseconds left. */
  renewed(remainingMillis: number): void {
    this.#meter.histogram(definitions.renewalMargin).record(remainingMillis / 1000)
  }

  notRenewed(reason: KvError.Reason): void {
    this.#meter.counter(definitions.renewalFailures, { "error.type": reason._tag }).add()
  }

  // ---------------------------------------------------------------------------
  // locks
  // ---------------------------------------------------------------------------

  /** An acquisition has begun. */
  lock(kind: LockKind): LockMetrics {
    let locks = this.#locks.get(kind)
    if (locks === undefined) {
      // Begins at 0, because an alert asks whether any lock was acquired. A run is not waited for.
      const acquired = kind === "run" ? undefined : this.#acquired(kind)
      const made: Locks = locks = { kind, held: 0, waiting: 0, acquired, hold: undefined }
      this.#locks.set(kind, made)
      this.#gauge(definitions.locksHeld, { kind }, () => made.held)
      this.#gauge(definitions.locksWaiting, { kind }, () => made.waiting)
      for (const cause of lockCauses) this.#meter.counter(definitions.locksLost, { kind, cause })
    }
    return new LockMetrics(this.#meter, this.#clock, locks)
  }

  #acquired(kind: LockKind): Histogram {
    return this.#meter.histogram(definitions.lockWait, { kind, outcome: "acquired" })
  }

  // ---------------------------------------------------------------------------
  // temporary keys
  // ---------------------------------------------------------------------------

  /** A temporary key was made. */
  tempKey(): TempKeyMetrics {
    let tempKeys = this.#tempKeys
    if (tempKeys === undefined) {
      const made = tempKeys = this.#tempKeys = { held: 0 }
      this.#gauge(definitions.tempKeys, {}, () => made.held)
      for (const cause of tempKeyCauses) this.#meter.counter(definitions.tempKeysLost, { cause })
    }
    return new TempKeyMetrics(this.#meter, tempKeys)
  }

  #gauge(definition: Definition, labels: Readonly<Record<string, string>>, read: () => number): void {
    this.#removals.push(this.#meter.gauge(definition, labels, read))
  }
}

/** One acquisition, from its begin to the end of the hold. */
export class LockMetrics {
  readonly #meter: Meter
  readonly #clock: Clock.Clock
  readonly #locks: Locks
  #state: "Waiting" | "Held" | "Ended" = "Waiting"
  #since: number

  constructor(meter: Meter, clock: Clock.Clock, locks: Locks) {
    this.#meter = meter
    this.#clock = clock
    this.#locks = locks
    this.#since = monotonicMillis(clock)
    locks.waiting++
  }

  acquired(): void {
    if (this.#state !== "Waiting") return
    const { acquired } = this.#locks
    this.held()
    if (acquired !== undefined) this.#record(acquired)
  }

  /** It is held, and was not waited for, as a run is not. */
  held(): void {
    if (this.#state !== "Waiting") return
    this.#state = "Held"
    this.#locks.waiting--
    this.#locks.held++
  }

  /** The lock was lost. Counts once, and only while it was held. */
  lost(cause: LossCause): void {
    if (this.#state !== "Held") return
    this.#meter.counter(definitions.locksLost, { kind: this.#locks.kind, cause }).add()
    this.ended()
  }

  /** The lock was released, or the acquisition has ended without it. */
  ended(): void {
    const locks = this.#locks
    if (this.#state === "Held") {
      locks.held--
      locks.hold ??= this.#meter.histogram(definitions.lockHold, { kind: locks.kind })
      this.#record(locks.hold)
    } else if (this.#state === "Waiting") {
      locks.waiting--
      this.#record(this.#meter.histogram(definitions.lockWait, { kind: locks.kind, outcome: "not acquired" }))
    }
    this.#state = "Ended"
  }

  #record(histogram: Histogram): void {
    const now = monotonicMillis(this.#clock)
    histogram.record((now - this.#since) / 1000)
    this.#since = now
  }
}

/** One temporary key. */
export class TempKeyMetrics {
  readonly #meter: Meter
  readonly #tempKeys: { held: number }
  #isHeld = true

  constructor(meter: Meter, tempKeys: { held: number }) {
    this.#meter = meter
    this.#tempKeys = tempKeys
    tempKeys.held++
  }

  lost(cause: "Lost" | "Taken"): void {
    this.#meter.counter(definitions.tempKeysLost, { cause }).add()
    this.ended()
  }

  recreated(): void {
    this.#meter.counter(definitions.tempKeysRecreated).add()
    if (!this.#isHeld) this.#tempKeys.held++
    this.#isHeld = true
  }

  ended(): void {
    if (this.#isHeld) this.#tempKeys.held--
    this.#isHeld = false
  }
}

/** The metrics of a client, whose gauges are removed when the scope closes. */
export const make: Effect.Effect<ClientMetrics, never, Scope.Scope> = Effect.contextWith((context) =>
  Effect.flatMap(Clock.Clock, (clock) => {
    const metrics = new ClientMetrics(new Meter(context), clock)
    return Effect.as(Effect.addFinalizer(() => Effect.sync(() => metrics.close())), metrics)
  })
)
