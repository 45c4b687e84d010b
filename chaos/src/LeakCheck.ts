/**
 * Leaks on the servers. Clients must delete the keys of locks and temporary keys when their users are done, while the
 * sessions continue. They must revoke the sessions themselves when they close, long before the leases expire.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Resources from "./Resources.ts"
import type { Change, Store } from "./Store.ts"
import { isResidentKey } from "./work/leases.ts"
import { isMemberKey } from "./work/members.ts"

/**
 * How long keys may remain whose client could not delete them: until their leases expire, whose time to live a new
 * leader starts again.
 */
const runOut = { schedule: Schedule.spaced("200 millis"), times: 50 }

/** Keys that no client needs any more once all workers have ended. */
export const keysLeft = Effect.fnUntraced(function*(store: Store, prefix: string) {
  const keys = Effect.map(
    store.keys(prefix),
    (keys) => keys.filter((key) => Resources.isOwned(key) && !isResidentKey(key) && !isMemberKey(key))
  )
  const left = yield* Effect.repeat(keys, { until: (keys) => keys.length === 0, ...runOut }).pipe(Effect.andThen(keys))
  return left.length === 0
    ? []
    : [`${left.length} keys are left that no client holds any more: ${left.slice(0, 3).join(", ")}`]
})

/** Watches that no client needs any more once all workers have ended. */
export const watchesLeft = Effect.fnUntraced(function*({ watches, watchesOf }: Store, clients: number) {
  const limit = watchesOf(clients)
  const left = yield* Effect.repeat(watches, { until: (count) => count <= limit, ...runOut }).pipe(
    Effect.andThen(watches)
  )
  return left <= limit ? [] : [`${left} watches are left on the servers, although most of them were closed`]
})

/** Which leases that existed when the clients had closed still held a client's long-lived temporary key. */
export const sessionsLeft = (
  leases: ReadonlyArray<bigint>,
  changes: ReadonlyArray<Change>
): ReadonlyArray<string> => {
  const last = new Map<string, bigint>()
  for (const { key, lease, type } of changes) if (type === "put" && isResidentKey(key)) last.set(key, lease)
  return [...last].flatMap(([key, lease]) =>
    leases.includes(lease) ? [`the client closed without revoking the lease of ${key}`] : []
  )
}
