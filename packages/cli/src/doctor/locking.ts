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
import { type Finding, ok, problem, warning } from "./finding.ts"

/** What was configured, as far as advice depends on it. */
export interface Configured {
  /** The user of a password; `undefined` for none. */
  readonly username: string | undefined
  readonly prefix: string
  /** Whether a finding already says why writes fail. */
  readonly isFull: boolean
}

/** The folder of the keys that are written. */
const folder = "effect-kv-doctor"

/** The time to live of recipes unless a program says otherwise. */
const ttl = Duration.seconds(10)

/** The findings, up to the first step that fails. At least one member must have responded before. */
export const findings = (configured: Configured): Effect.Effect<ReadonlyArray<Finding>, never, Kv> =>
  Effect.gen(function*() {
    const name = `${folder}/${(yield* Lease.randomId).toString(16)}`
    const key = `${name}/key`
    const kv = yield* Kv
    const found: Array<Finding> = []
    const step = <A, R>(what: Step, effect: Effect.Effect<A, KvError.KvError | LockLost | LockTimeout, R>) =>
      Effect.mapError(effect, (error) => failed(what, error, configured))
    const steps = Effect.gen(function*() {
      yield* step("read", kv.range(KeyRange.prefix(`${folder}/`), { limit: 1 }))
      found.push(ok("quorum", "the cluster has a quorum: a linearizable read succeeds"))
      if (configured.isFull) return
      const lease = yield* step("grant a lease", Lease.grant({ ttl }))
      yield* Effect.gen(function*() {
        yield* Effect.scoped(Effect.gen(function*() {
          const subscription = yield* step("watch", kv.subscribe(KeyRange.prefix(`${name}/`)))
          yield* step("write", kv.put(key, "", { lease: lease.id }))
          yield* step("watch", Effect.asVoid(Effect.timeoutOption(takeOne(subscription), "5 seconds")))
          yield* step("write", kv.delete(key))
        }))
        found.push(...yield* step("renew a lease", renewals(lease.id)))
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

type Step = "read" | "write" | "watch" | "grant a lease" | "renew a lease" | "lock"

const failed = (
  step: Step,
  error: KvError.KvError | LockLost | LockTimeout,
  { prefix, username }: Configured
): Finding => {
  const user = username === undefined ? "the client's certificate" : `the user ${JSON.stringify(username)}`
  const where = `the keys under ${JSON.stringify(`${prefix}${folder}/`)}`
  switch (error._tag === "KvError" ? error.reason._tag : error._tag) {
    case "Unauthenticated":
      return username === undefined
        ? problem(
          "credentials-missing",
          "the cluster demands authentication, and no user is given",
          "Give --user NAME (ETCD_USER) and set ETCD_PASSWORD."
        )
        : problem(
          "credentials-wrong",
          `the cluster rejects ${user} or its password`,
          "Correct ETCD_USER and ETCD_PASSWORD. An administrator sees the users with 'etcdctl user list'."
        )
    case "PermissionDenied":
      return problem(
        "permission-denied",
        `${user} may not ${step} ${where}, which locks need`,
        `Confine the command to keys that the user may use with --prefix, or grant the role the permission: ` +
          `etcdctl role grant-permission ROLE readwrite ${JSON.stringify(`${prefix}${folder}/`)} --prefix=true`
      )
    case "QuotaExceeded":
      return problem("quota-exceeded", "the cluster rejects writes: its database is full", "See the alarm NOSPACE.")
    case "Unavailable":
    case "DeadlineExceeded":
    case "Indeterminate":
      return problem(
        "no-quorum",
        `a member responds, but the cluster does not: to ${step} failed with: ${error.message}`,
        "A majority of the members must run and reach each other. Start those that are down."
      )
    default:
      return problem("failed", `to ${step} ${where} failed: ${error.message}`, "The message is the store's.")
  }
}

const rounds = 5

/** How long renewals take. A session renews at a third of its time to live, so it survives as long as two thirds. */
const renewals = Effect.fnUntraced(function*(lease: bigint) {
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
        "Use a longer TTL, and look for slow disks of the members (etcd's wal_fsync_duration) and for a slow network."
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
