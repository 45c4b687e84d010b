/**
 * The locks of shards. Each is one key on the shard lease of the runner that holds it.
 */
import * as Compare from "@effect-kv/core/Compare"
import type { Entry } from "@effect-kv/core/Entry"
import { execute } from "@effect-kv/core/KvBackend"
import type * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Cluster } from "./cluster.ts"
import * as heldLease from "./heldLease.ts"
import type { HeldLease } from "./heldLease.ts"
import type { Runner } from "./runner.ts"

/**
 * Acquires the locks that are free, and returns those that the runner now holds.
 *
 * One transaction holds a conditional put for each of up to 100 locks. So 300 shards take three requests, with every
 * kind of authentication.
 *
 * Locks of a runner that has just left are being released, one after the other. They are waited for, because `Sharding`
 * pauses for a second after each call.
 */
export const acquire = (
  cluster: Cluster,
  runner: Runner,
  shardIds: ReadonlyArray<string>
): Effect.Effect<Array<string>, KvError.KvError> =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      runner.acquiring++
    }),
    () =>
      Effect.gen(function*() {
        const wanted = [...new Set(shardIds)]
        while (true) {
          if (runner.shards !== undefined) isAlive(cluster, runner, runner.shards)
          const lease = yield* runner.shardLease(cluster)
          const held = yield* Effect.catchIf(acquireUnder(cluster, runner, lease, wanted), heldLease.isGone, () => {
            runner.forgetShards(lease)
            return Effect.succeed(undefined)
          })
          if (held === undefined) continue
          // The lease was lost or given up meanwhile, and its locks with it.
          if (!isAlive(cluster, runner, lease)) return []
          for (const [shardId, createRevision] of held) runner.locks.set(shardId, createRevision)
          return [...held.keys()]
        }
      }),
    () =>
      Effect.sync(() => {
        runner.acquiring--
      })
  )

const acquireUnder = Effect.fnUntraced(function*(
  cluster: Cluster,
  runner: Runner,
  lease: HeldLease,
  shardIds: ReadonlyArray<string>
): Effect.fn.Return<ReadonlyMap<string, bigint>, KvError.KvError> {
  const held = new Map<string, bigint>()
  const startedAt = cluster.now()
  const longestMillis = Math.min(longestHandOverMillis, Duration.toMillis(cluster.interval) / 3)
  for (let open = shardIds;;) {
    const found = yield* Effect.forEach(
      Arr.chunksOf(open, locksPerRequest),
      (chunk) => acquireSome(cluster, runner, lease, chunk),
      { concurrency: "unbounded" }
    )
    for (const [shardId, createRevision] of found.flatMap((each) => each.held)) held.set(shardId, createRevision)
    open = found.flatMap((each) => each.leaving)
    if (open.length === 0 || cluster.now() - startedAt >= longestMillis || !isAlive(cluster, runner, lease)) return held
    yield* Effect.sleep(handOverPause)
  }
})

/** How long `acquire` waits for the locks of runners that have left, and how often it tries. */
const longestHandOverMillis = 1000
const handOverPause = "25 millis"

/**
 * Whether locks under the lease count as held. After a freeze, responses arrive that are older than the lease. A lease that
 * can have ended is given up.
 */
const isAlive = (cluster: Cluster, runner: Runner, lease: HeldLease): boolean => {
  if (heldLease.mayHaveEnded(cluster, lease)) runner.condemnShards(lease)
  return runner.shards === lease
}

/** Each list of a nested transaction may be as long as etcd's limit, 128, minus the longest list around it. */
const locksPerRequest = 100

interface Found {
  readonly held: ReadonlyArray<readonly [shardId: string, createRevision: bigint]>
  /** Those that a runner still holds which is no longer registered. */
  readonly leaving: ReadonlyArray<string>
}

const acquireSome = (
  { keys, leaving, store }: Cluster,
  runner: Runner,
  lease: HeldLease,
  shardIds: ReadonlyArray<string>
): Effect.Effect<Found, KvError.KvError> =>
  Effect.map(
    execute(
      store,
      Op.txn({
        then: shardIds.map((shardId) => {
          const key = keys.lock(shardId)
          return Op.txn({
            if: [Compare.missing(key)],
            then: [Op.put(key, runner.address, { lease: lease.id })],
            else: [Op.get(key)]
          })
        })
      })
    ),
    ({ responses }) => {
      const held: Array<readonly [string, bigint]> = []
      const others: Array<string> = []
      for (const [index, shardId] of shardIds.entries()) {
        const response = responses[index]!
        if (response.succeeded) {
          held.push([shardId, response.revision])
          continue
        }
        const [entry] = response.responses[0].entries
        if (entry === undefined) continue
        if (!isUnder(lease, entry)) {
          if (leaving.has(keys.runner(entry.lossyText))) others.push(shardId)
        } else if (runner.orphans.get(shardId) !== entry.createRevision) held.push([shardId, entry.createRevision])
      }
      return { held, leaving: others }
    }
  )

const isUnder = (lease: HeldLease, entry: Entry): boolean => Option.contains(entry.lease, lease.id)

/**
 * Renews both leases, and returns which of the locks the runner still holds.
 *
 * It succeeds whenever the store responds, even if the leases are lost: `Sharding` probes the store with it.
 */
export const refresh = (
  cluster: Cluster,
  runner: Runner,
  shardIds: ReadonlyArray<string>
): Effect.Effect<Array<string>, KvError.KvError> =>
  Effect.suspend(() => {
    const { presence, shards } = runner
    const isPeriodic = [presence, shards].some((lease) => lease !== undefined && heldLease.isDue(cluster, lease))
    const renewed = (lease: HeldLease | undefined, forget: (lease: HeldLease) => void) =>
      lease === undefined || !heldLease.isDue(cluster, lease)
        ? Effect.void
        : Effect.map(heldLease.renew(cluster, lease), (isAlive) => isAlive ? undefined : forget(lease))
    const wanted = [...new Set(shardIds)]
    const before = new Map(runner.locks)
    return Effect.gen(function*() {
      const [entries] = yield* Effect.all([
        isPeriodic || wanted.length > fewLocks ? readAll(cluster) : readSome(cluster, wanted),
        // In this order, so that a runner's locks expire before its registration. If its peers see it missing while its
        // locks are still there, `Sharding` tries to acquire them in vain, and then waits for a second.
        renewed(shards, (lease) => runner.forgetShards(lease)),
        renewed(presence, (lease) => runner.forgetPresence(lease))
      ], { concurrency: "unbounded" })
      // Without the lease there are no locks, whatever was read before it ended.
      if (shards === undefined || !isAlive(cluster, runner, shards)) return []
      const held = new Map(
        entries.flatMap((entry) => isUnder(shards, entry) ? [[entry.key, entry.createRevision]] : [])
      )
      const still = wanted.filter((shardId) => {
        const acquiredAt = runner.locks.get(shardId)
        // It may have been acquired again since the read. Revisions do not show it: a restored store begins with old ones.
        return acquiredAt !== undefined &&
          (acquiredAt !== before.get(shardId) || acquiredAt === held.get(cluster.keys.lock(shardId)))
      })
      for (const shardId of wanted) if (!still.includes(shardId)) runner.locks.delete(shardId)
      if (isPeriodic) yield* deleteOrphans(cluster, runner, shards, held)
      return still
    })
  })

/** So many are read one by one; if there are more, or a lease is renewed anyway, all locks of the cluster are read. */
const fewLocks = 16

const readAll = ({ keys, store }: Cluster): Effect.Effect<ReadonlyArray<Entry>, KvError.KvError> =>
  Effect.map(execute(store, Op.range(keys.locks)), ({ entries }) => entries)

/** Reads the locks, or any key if none is requested, so that the store is reached. */
const readSome = (
  { keys, store }: Cluster,
  shardIds: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<Entry>, KvError.KvError> => {
  const reads = shardIds.length === 0 ? [keys.lastMachine] : shardIds.map(keys.lock)
  return Effect.map(
    execute(store, Op.txn({ then: reads.map((key) => Op.get(key)) })),
    ({ responses }) => responses.flatMap(({ entries }) => entries)
  )
}

/**
 * Deletes the locks that this process holds without knowing: their `acquire` was interrupted, and `Sharding` may have
 * reassigned the shard since. Its lease is renewed with the others, so no other runner could ever acquire it.
 */
const deleteOrphans = Effect.fnUntraced(function*(
  cluster: Cluster,
  runner: Runner,
  lease: HeldLease,
  held: ReadonlyMap<string, bigint>
): Effect.fn.Return<void, KvError.KvError> {
  // An `acquire` in flight may just be creating them.
  if (runner.acquiring > 0) return
  const known = new Map([...runner.locks].map(([shardId, revision]) => [cluster.keys.lock(shardId), revision]))
  const unknown = [...held].filter(([key, revision]) => known.get(key) !== revision)
  yield* Effect.forEach(unknown, ([key, revision]) => {
    const shardId = key.slice(cluster.keys.lock("").length)
    runner.orphans.set(shardId, revision)
    return Effect.map(deleteLock(cluster, key, revision), () => {
      if (runner.shards === lease && runner.orphans.get(shardId) === revision) runner.orphans.delete(shardId)
    })
  }, { concurrency: "unbounded", discard: true })
})

/**
 * Deletes the lock that was created at the revision. The condition must not be on the lease: a delete whose response is
 * lost may be applied late, when the same runner has acquired the lock again with the same lease.
 */
const deleteLock = ({ store }: Cluster, key: string, createRevision: bigint): Effect.Effect<void, KvError.KvError> =>
  Effect.asVoid(execute(
    store,
    Op.txn({ if: [Compare.createRevision(key, "=", createRevision)], then: [Op.delete(key)] })
  ))

/**
 * Releases the lock that the runner holds now, however often the effect is repeated. If it holds none, nothing happens.
 */
export const release = (cluster: Cluster, runner: Runner, shardId: string): Effect.Effect<void, KvError.KvError> => {
  const createRevision = runner.locks.get(shardId)
  if (createRevision === undefined) return Effect.void
  return Effect.map(deleteLock(cluster, cluster.keys.lock(shardId), createRevision), () => {
    if (runner.locks.get(shardId) === createRevision) runner.locks.delete(shardId)
  })
}

/**
 * Releases all locks by ending the shard lease. That also ends every `acquire` in flight: the store rejects it.
 *
 * The lease is given up now, before the effect runs. If its end fails with an unknown outcome, no lock under it may count
 * as held afterwards. And when the effect is repeated, it does not release locks that were acquired meanwhile.
 */
export const releaseAll = (cluster: Cluster, runner: Runner): Effect.Effect<void, KvError.KvError> => {
  if (runner.shards !== undefined) runner.condemnShards(runner.shards)
  return heldLease.revokeAll(cluster, runner.condemned)
}
