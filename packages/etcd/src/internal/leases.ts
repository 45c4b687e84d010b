/**
 * The four functions of leases.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Lease from "@effect-kv/core/Lease"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as etcd3 from "etcd3"
import * as call from "./call.ts"
import { decodeKey } from "./codec.ts"
import * as connection from "./connection.ts"
import { decoded, orNotUtf8 } from "./decoded.ts"
import * as errors from "./errors.ts"

type Leases = Pick<KvBackend, "leaseGrant" | "leaseKeepAlive" | "leaseRevoke" | "leaseTimeToLive">

export const make = (to: connection.Connection): Leases => ({
  leaseGrant: (options) => Effect.flatMap(Lease.grantSeconds(options), (seconds) => grant(to, seconds, options.id)),
  leaseKeepAlive: (id) => checked(id, keepAlive(to, id)),
  leaseRevoke: (id) => checked(id, revoke(to, id)),
  leaseTimeToLive: (id, options) => checked(id, timeToLive(to, id, options?.keys === true))
})

const lease = (id: string, ttl: string): Lease.Lease =>
  Lease.make({ id: BigInt(id), ttl: Duration.seconds(Number(ttl)) })

/** An id that is not a 64-bit integer would reach the server as another. */
const checked = <A>(id: bigint, effect: Effect.Effect<A, KvError.KvError>): Effect.Effect<A, KvError.KvError> => {
  const problem = Lease.invalidId(id)
  return problem === undefined ? effect : KvError.fail(new KvError.InvalidRequest({ message: problem }))
}

/**
 * Grants a lease.
 *
 * Where the id does not matter it is chosen here, at random out of 2^63: so a grant whose answer was lost can be asked for
 * again, and "exists already" is then known to speak of this very lease.
 */
const grant = (to: connection.Connection, seconds: number, id: bigint | undefined) =>
  id !== undefined ? grantOnce(to, seconds, id) : Effect.suspend(() => grantRepeatedly(to, seconds, randomId()))

const request = (seconds: number, id: bigint): etcd3.ILeaseGrantRequest => ({ TTL: seconds, ID: id.toString() })

const grantOnce = (to: connection.Connection, seconds: number, id: bigint) =>
  Effect.map(
    to.run({
      name: "leaseGrant",
      kind: "write",
      hasLeader: true,
      send: connection.lease((service) => service.leaseGrant, request(seconds, id))
    }),
    (response) => lease(response.ID, response.TTL)
  )

const grantRepeatedly = (to: connection.Connection, seconds: number, id: bigint) => {
  const grant = connection.lease((service) => service.leaseGrant, request(seconds, id))
  const ask = connection.lease((service) => service.leaseTimeToLive, { ID: id.toString(), keys: false })
  let attempts = 0
  return to.run<Lease.Lease>({
    name: "leaseGrant",
    kind: "idempotent",
    hasLeader: true,
    send: (endpoint, options, attempt) => {
      attempts += 1
      const granted = Effect.map(grant(endpoint, options, attempt), (response) => lease(response.ID, response.TTL))
      if (attempts === 1) return granted
      // Where it exists already it was granted by an earlier attempt, whose answer with the time to live was lost.
      return Effect.catchIf(granted, errors.isLeaseExists, () =>
        Effect.flatMap(
          ask(endpoint, options, attempt),
          (response) =>
            Number(response.TTL) < 0
              ? Effect.fail(errors.leaseGone)
              : Effect.succeed(lease(response.ID, response.grantedTTL))
        ))
    }
  })
}

const randomId = (): bigint => {
  const [bits] = crypto.getRandomValues(new BigUint64Array(1))
  return BigInt.asUintN(63, bits!) || 1n
}

/** One renewal on a stream of its own: the deadline and interruption work as for every other request. */
const keepAlive = Effect.fnUntraced(function*(to: connection.Connection, id: bigint) {
  const response = yield* to.run({
    name: "leaseKeepAlive",
    kind: "read",
    hasLeader: true,
    send: (endpoint, options, attempt) =>
      call.exchange(endpoint.lease, endpoint.lease.leaseKeepAlive, { ID: id.toString() }, options, attempt)
  })
  // etcd says that a lease is gone by renewing it for no time.
  return Number(response.TTL) > 0 ? lease(response.ID, response.TTL) : yield* notFound(id)
})

/** Ends a lease. Repeated, it finds none: then an earlier attempt ended it. */
const revoke = (to: connection.Connection, id: bigint): Effect.Effect<void, KvError.KvError> =>
  Effect.asVoid(to.run<etcd3.ILeaseRevokeResponse | undefined>({
    name: "leaseRevoke",
    kind: "idempotent",
    hasLeader: true,
    send: connection.lease((service) => service.leaseRevoke, { ID: id.toString() }),
    onRepeated: (reason) => reason._tag === "LeaseNotFound" ? Option.some(undefined) : Option.none()
  }))

const timeToLive = Effect.fnUntraced(
  function*(to: connection.Connection, id: bigint, keys: boolean): Effect.fn.Return<Lease.Status, KvError.KvError> {
    const response = yield* to.run({
      name: "leaseTimeToLive",
      kind: "read",
      hasLeader: true,
      send: connection.lease((service) => service.leaseTimeToLive, { ID: id.toString(), keys })
    })
    // -1 for a lease that is gone.
    if (Number(response.TTL) < 0) return yield* notFound(id)
    return Lease.makeStatus({
      id,
      grantedTtl: Duration.seconds(Number(response.grantedTTL)),
      remaining: Duration.seconds(Number(response.TTL)),
      keys: yield* decoded("read", decodeKeys(response.keys))
    })
  }
)

const decodeKeys = orNotUtf8((keys: ReadonlyArray<Buffer>) => keys.map(decodeKey).sort(KeyRange.compareKeys))

const notFound = (id: bigint): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(new KvError.LeaseNotFound({ message: `the lease ${id.toString(16)} does not exist` }))
