/**
 * The time that leases have left, as the store says it.
 */
import type { Kv } from "@effect-kv/core/Kv"
import * as Lease from "@effect-kv/core/Lease"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { duration } from "./times.ts"

/** `Ended`: the store does not have the lease any more. `Unknown`: the request failed. */
export type LeaseTime =
  | {
    readonly _tag: "Alive"
    readonly grantedSeconds: number
    readonly secondsLeft: number
    /** When that was so, in milliseconds. */
    readonly at: number
  }
  | { readonly _tag: "Ended" }
  | { readonly _tag: "Unknown" }

/** The times of leases by their ids. */
export type LeaseTimes = ReadonlyMap<bigint, LeaseTime>

/** Requests each lease once. It never fails: a lease whose request failed is `Unknown`. */
export const read = (ids: Iterable<bigint>): Effect.Effect<LeaseTimes, never, Kv> =>
  Effect.map(
    Effect.forEach(new Set(ids), (id) => Effect.map(readOne(id), (time) => [id, time] as const), { concurrency: 16 }),
    (times) => new Map(times)
  )

const readOne = (id: bigint): Effect.Effect<LeaseTime, never, Kv> =>
  Effect.matchEffect(Lease.timeToLive(id), {
    onFailure: ({ reason }) =>
      Effect.succeed<LeaseTime>({ _tag: reason._tag === "LeaseNotFound" ? "Ended" : "Unknown" }),
    onSuccess: ({ grantedTtl, remaining }) =>
      Effect.map(Clock.currentTimeMillis, (at): LeaseTime => ({
        _tag: "Alive",
        grantedSeconds: Duration.toSeconds(grantedTtl),
        secondsLeft: Duration.toSeconds(remaining),
        at
      }))
  })

/** The seconds that the lease has left now, unless it is renewed; `undefined` if they are not known. */
export const secondsLeft = (time: LeaseTime | undefined, now: number): number | undefined =>
  time?._tag !== "Alive" ? undefined : Math.max(0, Math.round(time.secondsLeft - (now - time.at) / 1000))

/** `7s of 10s`, `ended`, or `?`. */
export const text = (time: LeaseTime | undefined, now: number): string => {
  switch (time?._tag) {
    case "Alive":
      return `${duration(secondsLeft(time, now)! * 1000)} of ${duration(time.grantedSeconds * 1000)}`
    case "Ended":
      return "ended"
    default:
      return "?"
  }
}

/** The fields for scripts: `null` if they are not known. */
export const fields = (time: LeaseTime | undefined, now: number) => ({
  ttlSeconds: time?._tag === "Alive" ? time.grantedSeconds : null,
  secondsLeft: time?._tag === "Ended" ? 0 : secondsLeft(time, now) ?? null
})
