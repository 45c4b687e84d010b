/**
 * The four functions of leases.
 */
import * as Check from "@effect-kv/core/Check"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Lease from "@effect-kv/core/Lease"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as etcd3 from "etcd3"
import * as connection from "./rpc/connection.ts"
import * as errors from "./rpc/errors.ts"
import * as call from "./rpc/grpcCall.ts"
import type { Call } from "./rpc/retry.ts"
import { type Order, Replaced } from "./store/storeIdentity.ts"
import { decodeKey } from "./wire/codec.ts"
import { decoded, observed, orNotUtf8 } from "./wire/decoded.ts"
import { fromEtcd3 } from "./wire/header.ts"

type Leases = Pick<KvBackend, "leaseGrant" | "leaseKeepAlive" | "leaseRevoke" | "leaseTimeToLive">

export const make = (to: connection.Connection): Leases => ({
  leaseGrant: (options) => Effect.flatMap(Check.grantSeconds(options), (seconds) => grant(to, seconds, options.id)),
  leaseKeepAlive: (id) => checked(id, keepAlive(to, id)),
  leaseRevoke: (id) => checked(id, revoke(to, id)),
  leaseTimeToLive: (id, options) => checked(id, timeToLive(to, id, options?.keys === true))
})

const lease = (id: string, ttl: string): Lease.Lease =>
  Lease.make({ id: BigInt(id), ttl: Duration.seconds(Number(ttl)) })

/** An id that is not a 64-bit integer would reach the server as another. */
const checked = <A>(id: bigint, effect: Effect.Effect<A, KvError.KvError>): Effect.Effect<A, KvError.KvError> => {
  const problem = Check.leaseId(id)
  return problem === undefined ? effect : KvError.fail(new KvError.InvalidRequest({ message: problem }))
}

/**
 * Grants a lease.
 *
 * Where the id does not matter it is chosen here, at random out of 2^63: so a grant whose answer was lost can be asked for
 * again, and "exists already" is then known to speak of this very lease.
 */
const grant = (to: connection.Connection, seconds: number, id: bigint | undefined) =>
  id !== undefined
    ? grantOnce(to, seconds, id)
    : Effect.flatMap(Lease.randomId, (id) => grantRepeatedly(to, seconds, id))

const request = (seconds: number, id: bigint): etcd3.ILeaseGrantRequest => ({ TTL: seconds, ID: id.toString() })

/** Sends a request whose response is compared with what is known of the store. */
const compared = <A extends { readonly header: etcd3.IResponseHeader }>(
  to: connection.Connection,
  order: Order,
  send: Call<A>["send"]
): Call<A | Replaced>["send"] =>
  observed(
    to.store,
    order,
    (endpoint, options, attempt) =>
      Effect.map(send(endpoint, options, attempt), (value) => ({ header: fromEtcd3(value.header), value }))
  )

const granted = (response: etcd3.ILeaseGrantResponse | Replaced): Lease.Lease | Replaced =>
  response instanceof Replaced ? response : lease(response.ID, response.TTL)

const grantOnce = (to: connection.Connection, seconds: number, id: bigint) =>
  Effect.flatMap(
    to.run({
      name: "leaseGrant",
      kind: "write",
      hasLeader: true,
      send: compared(to, "Linearizable", connection.lease((service) => service.leaseGrant, request(seconds, id)))
    }),
    (response) => decoded("write", granted(response))
  )

const grantRepeatedly = (to: connection.Connection, seconds: number, id: bigint) => {
  const grant = compared(
    to,
    "Linearizable",
    connection.lease((service) => service.leaseGrant, request(seconds, id))
  )
  const ask = compared(
    to,
    "Member",
    connection.lease((service) => service.leaseTimeToLive, { ID: id.toString(), keys: false })
  )
  const regranted = (response: etcd3.ILeaseTimeToLiveResponse | Replaced) => {
    if (response instanceof Replaced) return Effect.succeed(response)
    return Number(response.TTL) < 0
      ? Effect.fail(errors.leaseGone)
      : Effect.succeed(lease(response.ID, response.grantedTTL))
  }
  let attempts = 0
  const granting = to.run<Lease.Lease | Replaced>({
    name: "leaseGrant",
    kind: "idempotent",
    hasLeader: true,
    send: (line, options, attempt) => {
      attempts += 1
      const answer = Effect.map(grant(line, options, attempt), granted)
      if (attempts === 1) return answer
      // Where it exists already it was granted by an earlier attempt, whose answer with the time to live was lost.
      const asked = Effect.flatMap(
        ask(line, options, attempt),
        (response): Effect.Effect<Lease.Lease | Replaced, errors.Failure> => regranted(response)
      )
      return Effect.catchIf(answer, errors.isLeaseExists, () => asked)
    }
  })
  return Effect.flatMap(granting, (answer) => decoded("idempotent", answer))
}

/** One renewal on a stream of its own: the deadline and interruption work as for every other request. */
const keepAlive = Effect.fnUntraced(function*(to: connection.Connection, id: bigint) {
  const answer = yield* to.run({
    name: "leaseKeepAlive",
    about: () => `leaseKeepAlive ${id.toString(16)}`,
    kind: "read",
    hasLeader: true,
    send: compared(
      to,
      "Member",
      ({ lease }, options, attempt) =>
        call.exchange(lease, lease.leaseKeepAlive, { ID: id.toString() }, options, attempt)
    )
  })
  const response = yield* decoded("read", answer)
  // etcd says that a lease is gone by renewing it for no time.
  return Number(response.TTL) > 0 ? lease(response.ID, response.TTL) : yield* notFound(id)
})

/** Ends a lease. Repeated, it finds none: then an earlier attempt ended it. */
const revoke = (to: connection.Connection, id: bigint): Effect.Effect<void, KvError.KvError> =>
  Effect.flatMap(
    to.run<etcd3.ILeaseRevokeResponse | Replaced | undefined>({
      name: "leaseRevoke",
      about: () => `leaseRevoke ${id.toString(16)}`,
      kind: "idempotent",
      hasLeader: true,
      send: compared(
        to,
        "Linearizable",
        connection.lease((service) => service.leaseRevoke, { ID: id.toString() })
      ),
      onRepeated: (reason) => reason._tag === "LeaseNotFound" ? Option.some(undefined) : Option.none()
    }),
    (answer) => Effect.asVoid(decoded("idempotent", answer))
  )

const timeToLive = Effect.fnUntraced(
  function*(to: connection.Connection, id: bigint, keys: boolean): Effect.fn.Return<Lease.Status, KvError.KvError> {
    const answer = yield* to.run({
      name: "leaseTimeToLive",
      about: () => `leaseTimeToLive ${id.toString(16)}`,
      kind: "read",
      hasLeader: true,
      send: compared(
        to,
        "Member",
        connection.lease((service) => service.leaseTimeToLive, { ID: id.toString(), keys })
      )
    })
    const response = yield* decoded("read", answer)
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
  KvError.fail(
    new KvError.LeaseNotFound({
      message: `the lease ${id.toString(16)} does not exist: it expired, was revoked or was never granted`
    })
  )
