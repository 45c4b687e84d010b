/**
 * Conflicts of optimistic writes: how a write is tried again after another one came in between.
 *
 * The first attempts follow at once. Later ones follow after random pauses, which grow, so that many clients do not keep
 * each other from succeeding. The fiber's deadline bounds all attempts together.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Deadline from "../../values/Deadline.ts"
import * as KvError from "../../values/KvError.ts"
import { monotonicMillis } from "../values/monotonic.ts"

/** How many attempts follow at once. Pauses need time to pass, which a test clock does not do by itself. */
const immediate = 8

const longestPause = 64

/** The attempts of one write. */
export interface Attempts {
  /** Waits before the next attempt. Fails with `DeadlineExceeded` if the deadline has passed. */
  readonly next: Effect.Effect<void, KvError.KvError>
}

/** Starts to count the attempts of a write. */
export const start: Effect.Effect<Attempts> = Effect.withFiber((fiber) =>
  Effect.clockWith((clock) => {
    const deadline = fiber.getRef(Deadline.Deadline) ?? Deadline.defaultDeadline
    const startedAt = monotonicMillis(clock)
    let conflicts = 0
    const next = Effect.suspend((): Effect.Effect<void, KvError.KvError> => {
      conflicts++
      if (monotonicMillis(clock) - startedAt >= Duration.toMillis(deadline)) {
        return KvError.fail(tooLate(conflicts, deadline))
      }
      if (conflicts < immediate) return Effect.void
      const atMost = Math.min(2 ** (conflicts - immediate), longestPause)
      return Effect.flatMap(Random.next, (random) => Effect.sleep(atMost * random))
    })
    return Effect.succeed({ next })
  })
)

const tooLate = (conflicts: number, deadline: Duration.Duration): KvError.Reason =>
  new KvError.DeadlineExceeded({
    message: `not applied: other writes of the same keys came in between in each of ${conflicts} attempts within ${
      Duration.format(deadline)
    }`
  })
