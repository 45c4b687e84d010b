/**
 * Whether a lock works: everything that one needs is done once, step by step, under a key that no other client uses.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import { Kv } from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as Lease from "@effect-kv/core/Lease"
import type { LockLost, LockTimeout } from "@effect-kv/core/LockError"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { type Finding, ok, warning } from "./finding.ts"

/** What findings say of one kind of store. */
export interface Terms {
  /** The finding that the store can be read. */
  readonly readable: Finding
  /** The finding of a step that failed. `where` is what it was about. */
  readonly failed: (step: Step, error: Failure, where: string) => Finding
  /** What makes renewals slow. */
  readonly slowness: string
}

/** What was configured, as far as findings depend on it. */
export interface Configured extends Terms {
  readonly prefix: string
  /** Whether a finding already says why writes fail. */
  readonly isRejected: boolean
}

export type Failure = KvError.KvError | LockLost | LockTimeout

/** The folder of the keys that are written. */
export const folder = "effect-kv-doctor"

/** The time to live of recipes unless a program says otherwise. */
const ttl = Duration.seconds(10)

/** The findings, up to the first step that fails. At least one member must have responded before. */
export const findings = (configured: Configured): Effect.Effect<ReadonlyArray<Finding>, never, Kv> =>
  Effect.gen(function*() {
    const name = `${folder}/${(yield* Lease.randomId).toString(16)}`
    const key = `${name}/key`
    const kv = yield* Kv
    const found: Array<Finding> = []
    const where = `the keys under ${JSON.stringify(`${configured.prefix}${folder}/`)}`
    const step = <A, R>(what: Step, effect: Effect.Effect<A, Failure, R>) =>
      Effect.mapError(effect, (error) => configured.failed(what, error, where))
    const steps = Effect.gen(function*() {
      yield* step("read", kv.range(KeyRange.prefix(`${folder}/`), { limit: 1 }))
      found.push(configured.readable)
      if (configured.isRejected) return
      const lease = yield* step("grant a lease", Lease.grant({ ttl }))
      yield* Effect.gen(function*() {
        yield* Effect.scoped(Effect.gen(function*() {
          const subscription = yield* step("watch", kv.subscribe(KeyRange.prefix(`${name}/`)))
          yield* step("write", kv.put(key, "", { lease: lease.id }))
          yield* step("watch", Effect.asVoid(Effect.timeoutOption(takeOne(subscription), "5 seconds")))
          yield* step("write", kv.delete(key))
        }))
        found.push(...yield* step("renew a lease", renewals(lease.id, configured.slowness)))
      }).pipe(Effect.ensuring(Effect.ignore(Lease.revoke(lease.id))))
      const [took] = yield* step("lock", Effect.timed(DistLock.withDistLock(Effect.void, name)))
      found.push(
        ok("lock", `a lock was acquired and released in ${millis(took)}: read, write, watch and lease are permitted`)
      )
    })
    return yield* Effect.match(steps, {
      onFailure: (finding) => [...found, finding],
      onSuccess: () => found
    })
  })

const takeOne = (subscription: Effect.Success<ReturnType<Kv["subscribe"]>>) => Stream.runHead(subscription.events)

export type Step = "read" | "write" | "watch" | "grant a lease" | "renew a lease" | "lock"

const rounds = 5

/** How long renewals take. A session renews at a third of its time to live, so it survives as long as two thirds. */
const renewals = Effect.fnUntraced(function*(lease: bigint, slowness: string) {
  const clock = yield* Clock.Clock
  const wallBefore = clock.currentTimeMillisUnsafe()
  const monotonicBefore = clock.monotonicTimeNanosUnsafe()
  const times: Array<Duration.Duration> = []
  for (let i = 0; i < rounds; i++) times.push((yield* Effect.timed(Lease.keepAlive(lease)))[0])
  const wall = clock.currentTimeMillisUnsafe() - wallBefore
  const monotonic = Number(clock.monotonicTimeNanosUnsafe() - monotonicBefore) / 1e6
  const slowest = times.reduce((a, b) => Duration.max(a, b))
  const found: Array<Finding> = [
    Duration.isGreaterThan(slowest, Duration.seconds(1))
      ? warning(
        "slow-renewals",
        `the slowest of ${rounds} renewals took ${
          millis(slowest)
        }; a lock with a TTL of 10 s is lost if one takes more than about 6 s`,
        `Use a longer TTL, and look for ${slowness}.`
      )
      : ok("renewals", `${rounds} renewals of a lease took at most ${millis(slowest)}`)
  ]
  if (Math.abs(wall - monotonic) > 500) {
    found.push(warning(
      "clock-jumps",
      `this machine's clock jumped by ${Math.round(wall - monotonic)} ms while renewals were measured`,
      "Sessions end early when the clock jumps forward. Let the clock be slewed, not stepped (chrony, ntpd -x)."
    ))
  }
  return found
})

const millis = (duration: Duration.Duration): string => `${Math.max(1, Math.round(Duration.toMillis(duration)))} ms`
