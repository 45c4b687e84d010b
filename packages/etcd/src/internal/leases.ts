/**
 * The lease functions of the backend: grant, keep-alive, revoke and time to live.
 */
import * as Check from "@effect-kv/core/Check"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Lease from "@effect-kv/core/Lease"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as connection from "./rpc/connection.ts"
import * as errors from "./rpc/errors.ts"
import type { Call } from "./rpc/retry.ts"
import type * as rpc from "./rpc/rpc.ts"
import { type Order, Replaced } from "./store/storeIdentity.ts"
import { decodeKey } from "./wire/codec.ts"
import { decoded, observed, orNotUtf8 } from "./wire/decoded.ts"
import { decodeLease, encodeGrant, encodeId, encodeTimeToLive, type LeaseResponse } from "./wire/leaseCodec.ts"

type Leases = Pick<KvBackend, "leaseGrant" | "leaseKeepAlive" | "leaseRevoke" | "leaseTimeToLive">

export const make = (to: connection.Connection): Leases => ({
  leaseGrant: (options) => Effect.flatMap(Check.grantSeconds(options), (seconds) => grant(to, seconds, options.id)),
  leaseKeepAlive: (id) => checked(id, keepAlive(to, id)),
  leaseRevoke: (id) => checked(id, revoke(to, id)),
  leaseTimeToLive: (id, options) => checked(id, timeToLive(to, id, options?.keys === true))
})

const lease = (id: bigint, ttl: number): Lease.Lease => Lease.make({ id, ttl: Duration.seconds(ttl) })

/** Encoding would turn an id that is not a 64-bit integer into another id. */
const checked = <A>(id: bigint, effect: Effect.Effect<A, KvError.KvError>): Effect.Effect<A, KvError.KvError> => {
  const problem = Check.leaseId(id)
  return problem === undefined ? effect : KvError.fail(new KvError.InvalidRequest({ message: problem }))
}

/**
 * Grants a lease.
 *
 * If the caller gives no id, the client chooses a random one out of 2^63. A grant whose response was lost can then be
 * retried, because "already exists" can only mean this lease.
 */
const grant = (to: connection.Connection, seconds: number, id: bigint | undefined) =>
  id !== undefined
    ? grantOnce(to, seconds, id)
    : Effect.flatMap(Lease.randomId, (id) => grantRepeatedly(to, seconds, id))

const rpcTo = (method: string, request: Buffer): rpc.Rpc<LeaseResponse> => ({
  path: `/etcdserverpb.Lease/${method}`,
  request,
  decode: decodeLease
})

/** Sends a request, and compares the response with the known identity of the store. */
const compared = (
  to: connection.Connection,
  order: Order,
  request: rpc.Rpc<LeaseResponse>
): Call<LeaseResponse | Replaced>["send"] =>
  observed(to.store, order, {
    ...request,
    decode: (message) => {
      const value = request.decode(message)
      return { header: value.header, value }
    }
  })

const granted = (response: LeaseResponse | Replaced): Lease.Lease | Replaced =>
  response instanceof Replaced ? response : lease(response.id, response.ttl)

const grantOnce = (to: connection.Connection, seconds: number, id: bigint) =>
  to.run({
    name: "leaseGrant",
    policy: "write",
    hasLeader: true,
    send: compared(to, "Linearizable", rpcTo("LeaseGrant", encodeGrant(seconds, id))),
    finish: (response) => decoded("write", granted(response))
  })

const grantRepeatedly = (to: connection.Connection, seconds: number, id: bigint) => {
  const grant = compared(to, "Linearizable", rpcTo("LeaseGrant", encodeGrant(seconds, id)))
  const readTimeToLive = compared(to, "Member", rpcTo("LeaseTimeToLive", encodeTimeToLive(id, false)))
  const regranted = (response: LeaseResponse | Replaced) => {
    if (response instanceof Replaced) return Effect.succeed(response)
    return response.ttl < 0 ? Effect.fail(errors.leaseGone) : Effect.succeed(lease(response.id, response.grantedTtl))
  }
  let attempts = 0
  return to.run<Lease.Lease | Replaced, Lease.Lease>({
    name: "leaseGrant",
    policy: "idempotent",
    hasLeader: true,
    send: (attempt) => {
      attempts += 1
      const attempted = Effect.map(grant(attempt), granted)
      if (attempts === 1) return attempted
      // A lease that already exists was granted by an earlier attempt. The lost response had its time to live.
      const existing = Effect.flatMap(
        readTimeToLive(attempt),
        (response): Effect.Effect<Lease.Lease | Replaced, errors.Failure> => regranted(response)
      )
      return Effect.catchIf(attempted, errors.isLeaseExists, () => existing)
    },
    finish: (response) => decoded("idempotent", response)
  })
}

/** Renews a lease once on its own stream, so that deadline and interruption work as for other requests. */
const keepAlive = Effect.fnUntraced(function*(to: connection.Connection, id: bigint) {
  const response = yield* to.run({
    name: "leaseKeepAlive",
    about: () => `leaseKeepAlive ${id.toString(16)}`,
    policy: "read",
    hasLeader: true,
    // `etcd grpc-proxy` drops the renewal when the client ends its side of the stream.
    send: compared(to, "Member", { ...rpcTo("LeaseKeepAlive", encodeId(id)), endAfterResponse: true }),
    finish: (response) => decoded("read", response)
  })
  // etcd reports a missing lease by a renewal with a TTL of 0.
  return response.ttl > 0 ? lease(response.id, response.ttl) : yield* notFound(id)
})

/** Revokes a lease. If a retry finds no lease, an earlier attempt has revoked it. */
const revoke = (to: connection.Connection, id: bigint): Effect.Effect<void, KvError.KvError> =>
  to.run<LeaseResponse | Replaced | undefined, void>({
    name: "leaseRevoke",
    about: () => `leaseRevoke ${id.toString(16)}`,
    policy: "idempotent",
    hasLeader: true,
    send: compared(to, "Linearizable", rpcTo("LeaseRevoke", encodeId(id))),
    onRepeated: (reason) => reason._tag === "LeaseNotFound" ? Option.some(undefined) : Option.none(),
    finish: (response) => Effect.asVoid(decoded("idempotent", response))
  })

const timeToLive = Effect.fnUntraced(
  function*(to: connection.Connection, id: bigint, keys: boolean): Effect.fn.Return<Lease.Status, KvError.KvError> {
    const response = yield* to.run({
      name: "leaseTimeToLive",
      about: () => `leaseTimeToLive ${id.toString(16)}`,
      policy: "read",
      hasLeader: true,
      send: compared(to, "Member", rpcTo("LeaseTimeToLive", encodeTimeToLive(id, keys))),
      finish: (response) => decoded("read", response)
    })
    // etcd reports -1 for a missing lease.
    if (response.ttl < 0) return yield* notFound(id)
    return Lease.makeStatus({
      id,
      grantedTtl: Duration.seconds(response.grantedTtl),
      remaining: Duration.seconds(response.ttl),
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
