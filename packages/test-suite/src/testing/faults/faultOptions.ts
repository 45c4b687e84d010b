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

/**
 * Which calls a fault strikes.
 *
 * @since 0.1.0
 */
export interface Where {
  /** A condition on the call, such as `KvFaults.writes("key")`. Default: all calls, including those for leases. */
  readonly when?: ((call: Call) => boolean) | undefined
  /** The first matching call that may be struck, counted from 1 and from now. Default: 1. */
  readonly nth?: number | undefined
  /** How many calls are struck; `Infinity` means all from there on. Default: 1. */
  readonly times?: number | undefined
}

/**
 * A fault that was injected.
 *
 * @since 0.1.0
 */
export interface Injection {
  /** Waits until it has struck once. */
  readonly struck: Effect.Effect<void>
  /** How many calls it has struck so far. */
  readonly count: Effect.Effect<number>
  /** Removes the fault: it strikes no more. */
  readonly remove: Effect.Effect<void>
}

/**
 * How watches are cut.
 *
 * @since 0.1.0
 */
export interface CutOptions {
  /** Which watches are cut. Default: all that are open. */
  readonly when?: ((request: WatchRequest) => boolean) | undefined
  /** How long until they are connected again. Default: no time. */
  readonly duration?: Duration.Input | undefined
  /**
   * Whether history is compacted meanwhile, so that the watches fail with `Compacted`. They fail at once if anything
   * was written since their last event, otherwise at the next write. Default: false.
   */
  readonly compacted?: boolean | undefined
  /**
   * The reason for which the watches fail instead of reconnecting, such as a revoked permission. Default: they
   * reconnect.
   */
  readonly failure?: KvError.Reason | undefined
}

/**
 * Rates of random faults: how often each kind strikes a call, from 0 to 1. Default: 0.
 *
 * @since 0.1.0
 */
export interface RandomOptions {
  /** The seed of the faults, an integer. */
  readonly seed: number
  /** Which calls can be struck. Default: all. */
  readonly when?: ((call: Call) => boolean) | undefined
  /** The request does not leave: `Unavailable`. */
  readonly unavailable?: number | undefined
  /** The request is lost, and the connection breaks. */
  readonly loseRequest?: number | undefined
  /** The response is lost, and the connection breaks. */
  readonly loseResponse?: number | undefined
  /** The connection breaks at once, and the request arrives later. */
  readonly applyLate?: number | undefined
  /** The request or the response is lost silently. */
  readonly silence?: number | undefined
  /** The request, the response or both are delayed. */
  readonly delay?: number | undefined
  /** The longest delay, in whole milliseconds. Default: 100 milliseconds. */
  readonly maxDelay?: Duration.Input | undefined
  /** All watches are cut, for at most `maxDelay`. */
  readonly cutWatches?: number | undefined
  /** A lease that the client was granted ends, and with it the locks and temporary keys on it. */
  readonly endLease?: number | undefined
}

/**
 * A fault that has struck.
 *
 * @since 0.1.0
 */
export interface Injected {
  /** What was done, in words. */
  readonly description: string
  /** The call that was struck, or during which the fault was injected. */
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
