/**
 * What happens to the clients themselves.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Fault } from "../Fault.ts"
import type { Stage } from "../Stage.ts"

/** The event loop stands still, as in a long computation or a virtual machine that is stopped: for all clients. */
export const stall = ({ millis }: Fault): Effect.Effect<void> =>
  Effect.sync(() => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, millis))

class NobodyHolds extends Data.TaggedError("NobodyHolds")<{ readonly message: string }> {}

/**
 * Ends the lease of whoever holds a lock, several times. Every other time its links are dead meanwhile: it cannot hear
 * of it, and what it writes arrives when others have had the lock.
 */
export const evict = Effect.fnUntraced(function*(stage: Stage, lock: string) {
  for (let i = 0; i < 6; i++) {
    // Nobody may hold it at this moment, or whoever did may have gone in between.
    const attempt = i % 2 === 0 ? evictOnce(stage, lock) : evictUnheard(stage, lock)
    yield* Effect.retry(attempt, { schedule: Schedule.spaced("50 millis"), times: 100 })
  }
})

const evictOnce = Effect.fnUntraced(function*(stage: Stage, lock: string) {
  const { lease } = yield* holderOf(stage, lock)
  yield* revoke(stage, lease)
})

const revoke = (stage: Stage, lease: string) =>
  Effect.suspend(() => {
    stage.evicted.add(BigInt(`0x${lease}`))
    return stage.cluster.etcdctl(["lease", "revoke", lease])
  })

/** One that holds it for long is about to write: two looks have found it. */
const evictUnheard = Effect.fnUntraced(function*(stage: Stage, lock: string) {
  const before = yield* holderOf(stage, lock)
  const { lease, place, token } = yield* holderOf(stage, lock)
  if (token !== before.token) return yield* new NobodyHolds({ message: `nobody holds ${lock} for long` })
  const links = stage.links[place]!
  yield* Effect.acquireUseRelease(
    Effect.forEach(links, (link) => link.blackhole()),
    () => Effect.andThen(revoke(stage, lease), Effect.sleep("400 millis")),
    () => Effect.forEach(links, (link) => link.heal)
  )
})

/** The token and the lease that a lock is held with, and the place of the client, whose name the holder gives. */
const holderOf = Effect.fnUntraced(function*(stage: Stage, lock: string) {
  const oldest = ["get", `${lock}/`, "--prefix", "--sort-by=CREATE", "--order=ASCEND", "--limit=1", "-w=fields"]
  const fields = yield* stage.cluster.etcdctl(oldest)
  const [, token] = /"CreateRevision" : (\d+)/.exec(fields) ?? []
  const [, lease] = /"Lease" : (\d+)/.exec(fields) ?? []
  const [, name] = /"Value" : "c(\d+)"/.exec(fields) ?? []
  if (lease === undefined || name === undefined) return yield* new NobodyHolds({ message: `nobody holds ${lock}` })
  return { token, lease: BigInt(lease).toString(16), place: Number(name) - 1 }
})
