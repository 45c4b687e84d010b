/**
 * Conflicts of optimistic writes: how a write is tried again after another one came in between.
 *
 * The first attempts follow at once. Later ones follow after random pauses, which grow, so that many clients do not keep
 * each other from succeeding. After two conflicts, the client's own writes of the keys wait, so that they cannot be what
 * comes in between. The fiber's deadline bounds all attempts together.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Deadline from "../../values/Deadline.ts"
import type * as KeyRange from "../../values/KeyRange.ts"
import * as KvError from "../../values/KvError.ts"
import { monotonicMillis } from "../values/monotonic.ts"
import * as reservations from "./reservations.ts"

/** How many attempts follow at once. Pauses need time to pass, which a test clock does not do by itself. */
const immediate = 8

const longestPause = 64

/** How many attempts are made without a reservation. Most conflicts are single ones. */
const unreserved = 2

/** The attempts of one write. */
export interface Attempts {
  /** How many conflicts there were. */
  readonly conflicts: () => number
  /** Counts a conflict, without a pause. Fails as `next` does. */
  readonly count: Effect.Effect<void, KvError.KvError>
  /** Waits before the next attempt. Fails with `DeadlineExceeded` if the deadline has passed. */
  readonly next: Effect.Effect<void, KvError.KvError>
}

/** Starts to count the attempts of a write. */
export const start: Effect.Effect<Attempts> = Effect.withFiber((fiber) =>
  Effect.clockWith((clock) => {
    const deadline = fiber.getRef(Deadline.Deadline) ?? Deadline.defaultDeadline
    const startedAt = monotonicMillis(clock)
    let conflicts = 0
    const count = Effect.suspend((): Effect.Effect<void, KvError.KvError> => {
      conflicts++
      return monotonicMillis(clock) - startedAt >= Duration.toMillis(deadline)
        ? KvError.fail(tooLate(conflicts, deadline))
        : Effect.void
    })
    const pause = Effect.suspend(() => {
      if (conflicts < immediate) return Effect.void
      const atMost = Math.min(2 ** (conflicts - immediate), longestPause)
      return Effect.flatMap(Random.next, (random) => Effect.sleep(atMost * random))
    })
    return Effect.succeed({ conflicts: () => conflicts, count, next: Effect.andThen(count, pause) })
  })
)

/** The keys on which a write is conditional. */
export interface Keys {
  readonly client: object
  /** At the client's root. */
  readonly ranges: () => ReadonlyArray<KeyRange.KeyRange>
}

/**
 * Makes further attempts, after a first one that had a conflict, until one returns a result; `none` is a conflict.
 *
 * A reservation lasts for two attempts, because what the first one read is older than the reservation.
 */
export const untilSuccess = <A, E, R>(
  attempts: Attempts,
  { client, ranges }: Keys,
  attempt: Effect.Effect<Option.Option<A>, E, R>
): Effect.Effect<A, E | KvError.KvError, R> => {
  const twice = Effect.flatMap(
    attempt,
    (result): Effect.Effect<Option.Option<A>, E | KvError.KvError, R> =>
      Option.isSome(result) ? Effect.succeed(result) : Effect.andThen(attempts.count, attempt)
  )
  return reservations.contending(
    client,
    Effect.gen(function*() {
      while (true) {
        yield* attempts.next
        const result = yield* attempts.conflicts() < unreserved
          ? attempt
          : reservations.reserving(client, ranges(), twice)
        if (Option.isSome(result)) return result.value
      }
    })
  )
}

const tooLate = (conflicts: number, deadline: Duration.Duration): KvError.Reason =>
  new KvError.DeadlineExceeded({
    message: `not applied: other writes of the same keys came in between in each of ${conflicts} attempts within ${
      Duration.format(deadline)
    }`
  })
