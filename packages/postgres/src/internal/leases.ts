/**
 * The four functions for leases. Times are those of the database's clock.
 */
import * as Check from "@effect-kv/core/Check"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Lease from "@effect-kv/core/Lease"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { keyOf } from "./bytes.ts"
import * as calls from "./calls.ts"
import type { Connection } from "./connection.ts"
import { leaseNotFound } from "./items.ts"

type Leases = Pick<KvBackend, "leaseGrant" | "leaseKeepAlive" | "leaseRevoke" | "leaseTimeToLive">

/** As in etcd: a shorter time to live does not survive a short delay of the network. */
const minSeconds = 2

export const make = (to: Connection): Leases => ({
  leaseGrant: (options) =>
    Effect.flatMap(Check.grantSeconds(options), (requested) => {
      const seconds = Math.max(minSeconds, requested)
      return Effect.flatMap(
        to.write(calls.grantLease(to, options.id, seconds), () => KvError.fail(lost("the lease was granted"))),
        (rows) => rows.length === 0 ? leaseExists(options.id) : Effect.succeed(leaseOf(rows[0]![0] as bigint, seconds))
      )
    }),
  leaseKeepAlive: (id) =>
    checked(
      id,
      Effect.flatMap(to.readUrgently(calls.keepLeaseAlive(to, id)), (rows) =>
        rows.length === 0 ? Effect.fail(leaseNotFound(id)) : Effect.succeed(leaseOf(id, Number(rows[0]![0]))))
    ),
  leaseRevoke: (id) =>
    checked(
      id,
      Effect.flatMap(
        to.write(calls.revokeLease(to, id), () => KvError.fail(lost("the lease was revoked"))),
        (rows) => rows[0]![0] === true ? Effect.void : Effect.fail(leaseNotFound(id))
      )
    ),
  leaseTimeToLive: (id, options) =>
    checked(
      id,
      Effect.flatMap(to.read(calls.leaseTimeToLive(to, id)), (rows) =>
        rows.length === 0 ? Effect.fail(leaseNotFound(id)) : Effect.map(
          options?.keys === true ? to.read(calls.leaseKeys(to, id)) : Effect.succeed([]),
          (keys) =>
            Lease.makeStatus({
              id,
              grantedTtl: Duration.seconds(Number(rows[0]![0])),
              remaining: Duration.seconds(Number(rows[0]![1])),
              keys: keys.map(([key]) =>
                keyOf(key as Uint8Array)
              )
            })
        ))
    )
})

const checked = <A>(id: bigint, call: Effect.Effect<A, KvError.KvError>): Effect.Effect<A, KvError.KvError> =>
  Effect.andThen(Check.orFail(Check.leaseId(id)), call)

const leaseOf = (id: bigint, seconds: number): Lease.Lease => Lease.make({ id, ttl: Duration.seconds(seconds) })

const leaseExists = (id: bigint | undefined): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(
    new KvError.LeaseExists({
      message: `the lease ${id?.toString(16)} exists already; leave the id out to have one chosen`
    })
  )

const lost = (what: string): KvError.Reason =>
  new KvError.Indeterminate({
    message: `the connection broke before the response arrived: it is not known whether ${what}`
  })
