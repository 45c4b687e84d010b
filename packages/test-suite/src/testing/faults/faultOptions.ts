/**
 * Options of faults: which calls they strike, how watches are cut, and the rates of random faults.
 *
 * Invalid options are thrown: a fault that never strikes, or always, would make a test prove something else than intended.
 */
import type * as KvError from "@effect-kv/core/KvError"
import type { WatchRequest } from "@effect-kv/core/Watch"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { Call } from "../BackendCall.ts"

/** Selects the calls that a fault strikes. */
export interface Where {
  /** A condition on the call, such as `KvFaults.writes("key")`. Default: all calls, those for leases included. */
  readonly when?: ((call: Call) => boolean) | undefined
  /** The first matching call to strike, counted from 1 and from now. Default: 1. */
  readonly nth?: number | undefined
  /** How many calls to strike, `Infinity` for all from then on. Default: 1. */
  readonly times?: number | undefined
}

/** A fault that waits for its calls. */
export interface Injection {
  /** Waits until the fault has struck once. */
  readonly struck: Effect.Effect<void>
  /** How many calls the fault has struck so far. */
  readonly count: Effect.Effect<number>
  /** Removes the fault. */
  readonly remove: Effect.Effect<void>
}

/** Options of a cut of watches. */
export interface CutOptions {
  /** Selects the watches. Default: all open watches. */
  readonly when?: ((request: WatchRequest) => boolean) | undefined
  /** How long until they are reconnected. Default: 0. */
  readonly duration?: Duration.Input | undefined
  /**
   * Whether the history is compacted meanwhile, so that they fail with `Compacted`. They fail at once if there was a write
   * since their last event, else at the next event, which then is the missing one. Default: false.
   */
  readonly compacted?: boolean | undefined
  /**
   * Fails them for this reason instead of reconnecting them, as a store does that revokes a permission. Default: they are
   * reconnected.
   */
  readonly failure?: KvError.Reason | undefined
}

/** Options of random faults. Rates are the probability that a fault strikes a call, from 0 to 1. Default: 0. */
export interface RandomOptions {
  readonly seed: number
  /** Selects the calls. Default: all. */
  readonly when?: ((call: Call) => boolean) | undefined
  readonly unavailable?: number | undefined
  readonly loseRequest?: number | undefined
  readonly loseAnswer?: number | undefined
  readonly applyLate?: number | undefined
  /** A request or a response is lost silently. */
  readonly silence?: number | undefined
  /** The request, the response or both are delayed. */
  readonly delay?: number | undefined
  /** The longest delay, in whole milliseconds. Default: 100 milliseconds. */
  readonly maxDelay?: Duration.Input | undefined
  /** All watches are cut for at most `maxDelay`. */
  readonly cutWatches?: number | undefined
  /** A lease of the client ends, and with it the locks and temporary keys on it. */
  readonly endLease?: number | undefined
}

/** A fault that was injected. */
export interface Injected {
  readonly description: string
  /** The call that it struck, or at which it happened. */
  readonly call: Call | undefined
}

/** Throws if the options select no call. */
export const checkWhere = ({ nth = 1, times = 1 }: Where): void => {
  if (!isCount(nth)) throw new RangeError(`nth must be a positive integer, not ${nth}`)
  if (!isCount(times) && times !== Infinity) {
    throw new RangeError(`times must be a positive integer or Infinity, not ${times}`)
  }
}

/** Throws if a rate is not from 0 to 1, the seed is not an integer, or the delay is not a positive finite time. */
export const checkRandom = ({ maxDelay, seed, when: _, ...rates }: RandomOptions): void => {
  if (!Number.isSafeInteger(seed)) throw new RangeError(`seed must be an integer, not ${seed}`)
  for (const [name, rate] of Object.entries(rates)) {
    if (rate !== undefined && !(rate >= 0 && rate <= 1)) {
      throw new RangeError(`${name} must be from 0 to 1, not ${rate}`)
    }
  }
  const millis = Duration.toMillis(Duration.fromInputUnsafe(maxDelay ?? 1))
  if (!(millis >= 1 && Number.isFinite(millis))) {
    throw new RangeError(`maxDelay must be at least 1 millisecond and finite, not ${millis} milliseconds`)
  }
}

const isCount = (value: number): boolean => Number.isSafeInteger(value) && value > 0
