/**
 * Validation of a lease grant, and the seconds to request.
 */
import * as Duration from "effect/Duration"
import * as Exit from "effect/Exit"
import * as KvError from "../../values/KvError.ts"
import type { GrantOptions } from "../../values/LeaseModel.ts"

export const maxTtlSeconds = 9_000_000_000

export const grantSeconds = (options: GrantOptions): Exit.Exit<number, KvError.KvError> => {
  const ttl = Duration.fromInput(options.ttl)
  const seconds = ttl._tag === "Some" ? Math.ceil(Duration.toSeconds(ttl.value)) : Number.NaN
  if (!(seconds >= 1 && seconds <= maxTtlSeconds)) {
    return invalid(`a lease's time to live must be more than 0 and at most ${maxTtlSeconds} seconds`)
  }
  if (options.id !== undefined && !(options.id > 0n && BigInt.asIntN(64, options.id) === options.id)) {
    return invalid(
      `a lease id must be a positive 64-bit integer, not ${options.id}; leave it out to have one chosen`
    )
  }
  return Exit.succeed(seconds)
}

const invalid = (message: string): Exit.Exit<never, KvError.KvError> =>
  Exit.fail(KvError.make(new KvError.InvalidRequest({ message })))
