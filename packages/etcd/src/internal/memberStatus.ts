/**
 * The status that a member reports about itself, and the alarms of the cluster in it.
 */
import type * as KvError from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import type * as connection from "./rpc/connection.ts"
import type * as retry from "./rpc/retry.ts"
import * as rpc from "./rpc/rpc.ts"
import { decodeStatus, type MemberStatus } from "./wire/statusCodec.ts"

/** Requests the status of a member. It responds even without a quorum, so a response shows that it is reachable. */
export const request = (
  to: connection.Connection,
  options?: Pick<retry.Call<never>, "isTokenOptional" | "onResponse">
): Effect.Effect<MemberStatus, KvError.KvError> =>
  to.run<MemberStatus, MemberStatus>({
    ...options,
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
  })

/** An alarm: its name, such as `NOSPACE`, and the member that raised it. */
export interface Alarm {
  readonly memberId: bigint
  readonly kind: string
}

/**
 * The alarms in a status, which etcd prints as `memberID:9372538179322589801 alarm:NOSPACE`. Any other error is an alarm
 * of the member that reports it, except that it knows no leader.
 */
export const alarmsOf = ({ errors, header }: Pick<MemberStatus, "errors" | "header">): ReadonlyArray<Alarm> =>
  errors.filter((text) => !text.includes("no leader")).map((text) => {
    const [, memberId, kind] = /memberID:(\d+)\s+alarm:(\w+)/.exec(text) ?? []
    return memberId === undefined || kind === undefined
      ? { memberId: header.memberId, kind: text }
      : { memberId: BigInt(memberId), kind }
  })

/**
 * The names of the alarms of a cluster, each once. Fails with `Unavailable` only if no member responds.
 *
 * Newer versions of etcd with authentication demand a token, and to issue one they need a quorum. Without a quorum such a
 * member responds that it demands one, and its alarms are not known.
 */
export const alarmNames = (to: connection.Connection): Effect.Effect<ReadonlyArray<string>, KvError.KvError> =>
  Effect.suspend(() => {
    let hasResponded = false
    const onResponse = (): void => {
      hasResponded = true
    }
    return request(to, { isTokenOptional: true, onResponse }).pipe(
      Effect.map((status) => [...new Set(alarmsOf(status).map(({ kind }) => kind))]),
      Effect.catchIf(
        ({ reason: { _tag } }) => hasResponded && (_tag === "Unavailable" || _tag === "DeadlineExceeded"),
        () => Effect.succeed([])
      )
    )
  })
