/**
 * Options of faults: which calls they strike, how watches are cut, and the rates of random faults.
 *
 * Options that make no sense are mistakes of a test, and are thrown: a fault that strikes nothing, or always, proves
 * something else than its author thinks.
 */
import type * as KvError from "@effect-kv/core/KvError"
import type { WatchRequest } from "@effect-kv/core/Watch"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { Call } from "../BackendCall.ts"

/** Which calls a fault strikes. */
export interface Where {
  /** A condition on the call, such as `KvFaults.writes("key")`. Default: all calls, those for leases too. */
  readonly when?: ((call: Call) => boolean) | undefined
  /** The first of them that may be struck, counted from 1 and from now. Default: 1. */
  readonly nth?: number | undefined
  /** How many are struck; `Infinity` for all from there on. Default: 1. */
  readonly times?: number | undefined
}

/** A fault that waits for its calls. */
export interface Injection {
  /** Waits until it has struck once. */
  readonly struck: Effect.Effect<void>
  /** How many calls it has struck so far. */
  readonly count: Effect.Effect<number>
  /** It strikes no more. */
  readonly remove: Effect.Effect<void>
}

/** How watches are cut. */
export interface CutOptions {
  /** Which. Default: all that are open. */
  readonly when?: ((request: WatchRequest) => boolean) | undefined
  /** How long until they are connected again. Default: no time. */
  readonly duration?: Duration.Input | undefined
  /**
   * Whether history is compacted meanwhile, so that they fail with `Compacted`: at once if anything at all has been
   * written since their last event, else with the next event, which is then the one that is missing. Default: false.
   */
  readonly compacted?: boolean | undefined
  /**
   * They fail for this reason instead of being connected again: as a store does that withdraws a permission. Default: they
   * do not.
   */
  readonly failure?: KvError.Reason | undefined
}

/** Faults at random: how often each kind strikes a call, from 0, which is the default, to 1. */
export interface RandomOptions {
  readonly seed: number
  /** Only these calls. Default: all. */
  readonly when?: ((call: Call) => boolean) | undefined
  readonly unavailable?: number | undefined
  readonly loseRequest?: number | undefined
  readonly loseAnswer?: number | undefined
  readonly applyLate?: number | undefined
  /** A request or an answer is lost silently. */
  readonly silence?: number | undefined
  /** The request or the answer, or both, take their time. */
  readonly delay?: number | undefined
  /** The most a delay takes; in whole milliseconds. Default: 100 milliseconds. */
  readonly maxDelay?: Duration.Input | undefined
  /** All watches are cut, for at most `maxDelay`. */
  readonly cutWatches?: number | undefined
  /** A lease that the client has been granted ends, and with it the locks and temporary keys on it. */
  readonly endLease?: number | undefined
}

/** Something that was done to the client. */
export interface Injected {
  readonly description: string
  /** The call it was done to, or that it was done at. */
  readonly call: Call | undefined
}

/** Throws where the calls to be struck are none. */
export const checkWhere = ({ nth = 1, times = 1 }: Where): void => {
  if (!isCount(nth)) throw new RangeError(`nth must be a positive integer, not ${nth}`)
  if (!isCount(times) && times !== Infinity) {
    throw new RangeError(`times must be a positive integer or Infinity, not ${times}`)
  }
}

/** Throws where rates are not from 0 to 1, a seed stands for another one too, or a delay is none. */
export const checkRandom = ({ maxDelay, seed, when: _, ...rates }: RandomOptions): void => {
  if (!Number.isSafeInteger(seed)) throw new RangeError(`seed must be an integer, not ${seed}`)
  for (const [name, rate] of Object.entries(rates)) {
    if (rate !== undefined && !(rate >= 0 && rate <= 1)) {
      throw new RangeError(`${name} must be from 0 to 1, not ${rate}`)
    }
  }
  const millis = Duration.toMillis(Duration.fromInputUnsafe(maxDelay ?? 1))
  if (!(millis >= 1 && Number.isFinite(millis))) {
    throw new RangeError(`maxDelay must be a millisecond at least, and not without end`)
  }
}

const isCount = (value: number): boolean => Number.isSafeInteger(value) && value > 0
