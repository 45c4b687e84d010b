/**
 * The alarms of a cluster, as any of its members reports them.
 */
import type * as KvError from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import type * as connection from "./rpc/connection.ts"
import * as rpc from "./rpc/rpc.ts"
import { decodeStatus, type MemberStatus } from "./wire/statusCodec.ts"

/**
 * The names of the alarms, such as `NOSPACE`. A member responds even without a quorum, so a response also shows that a
 * member is reachable.
 */
export const read = (to: connection.Connection): Effect.Effect<ReadonlyArray<string>, KvError.KvError> =>
  Effect.map(
    to.run<MemberStatus, MemberStatus>({
      name: "status",
      policy: "read",
      hasLeader: false,
      send: (attempt) =>
        rpc.send(attempt, {
          path: "/etcdserverpb.Maintenance/Status",
          request: Buffer.alloc(0),
          decode: decodeStatus
        }),
      finish: Effect.succeed
    }),
    ({ errors }) => namesOf(errors)
  )

/** etcd prints an alarm as `memberID:8211f1d0f64f3269 alarm:NOSPACE`. */
const namesOf = (errors: ReadonlyArray<string>): ReadonlyArray<string> => [
  ...new Set(
    errors.filter((error) => !error.includes("no leader")).map((error) => /alarm:(\w+)/.exec(error)?.[1] ?? error)
  )
]
