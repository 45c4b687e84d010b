/**
 * Runners that registered again with another weight or other groups: the list of runners omits them for a while.
 *
 * `Sharding` adds the new runner to its ring before it removes the old one, by its address, which would remove both. It does
 * not compare groups at all. So it must read the list once without the runner in between. It reads after each
 * `refreshAssignmentsInterval`, but tools and other users of the `RunnerStorage` may read too. The runner is left
 * out of all reads until so much time has passed that one of them was `Sharding`'s.
 */
import * as Duration from "effect/Duration"
import type { Cluster } from "./cluster.ts"

interface Listed {
  /** The runner, as it was listed last. */
  readonly runner: string
  /** For how many more milliseconds it is left out; `undefined` while it is listed. */
  left: number | undefined
}

/** The pause of `Sharding` after a read that failed. */
const pauseMillis = 1000

export class ChangedRunners {
  readonly #listed = new Map<string, Listed>()
  readonly #intervalMillis: number
  readonly #now: () => number
  readonly #leaving: Set<string>
  #readAt: number

  constructor({ assignmentsInterval, leaving, now }: Cluster) {
    this.#intervalMillis = Duration.toMillis(assignmentsInterval)
    this.#now = now
    this.#leaving = leaving
    this.#readAt = now()
  }

  /** What was read, without the runners that `Sharding` may still know as they were. */
  withoutThem<R extends { readonly runner: string }>(
    read: ReadonlyArray<readonly [key: string, registration: R]>
  ): ReadonlyArray<R> {
    this.#passTime()
    const runners = new Map(read.map(([key, { runner }]) => [key, runner]))
    for (const [key, listed] of this.#listed) {
      if (runners.get(key) === listed.runner) continue
      // Two intervals, because the first of these reads may have come just after one of `Sharding`.
      if (listed.left === undefined) listed.left = 2 * this.#intervalMillis
      else if (listed.left <= 0) this.#listed.delete(key)
    }
    this.#leaving.clear()
    for (const key of this.#listed.keys()) if (!runners.has(key)) this.#leaving.add(key)
    return read.flatMap(([key, registration]) => {
      const { runner } = registration
      if ((this.#listed.get(key)?.runner ?? runner) !== runner) return []
      this.#listed.set(key, { runner, left: undefined })
      return [registration]
    })
  }

  /** A read of `Sharding` may have failed: it reads again after a pause. */
  readFailed(): void {
    for (const listed of this.#listed.values()) {
      if (listed.left !== undefined) listed.left = 2 * this.#intervalMillis + pauseMillis
    }
  }

  /**
   * Between two reads counts one interval at most: if there was none for longer, the process was stalled, and `Sharding`
   * has not read either.
   */
  #passTime(): void {
    const now = this.#now()
    const passed = Math.min(now - this.#readAt, this.#intervalMillis)
    this.#readAt = now
    for (const listed of this.#listed.values()) if (listed.left !== undefined) listed.left -= passed
  }
}
