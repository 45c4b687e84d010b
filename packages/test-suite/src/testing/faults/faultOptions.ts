/**
 * Options that make no sense. They are mistakes of a test, and of those it should hear: a fault that strikes nothing, or
 * always, proves something else than its author thinks.
 */
import * as Duration from "effect/Duration"
import type { RandomOptions, Where } from "../KvFaults.ts"

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
