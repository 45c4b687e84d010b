/**
 * The creation of a temporary key in the store, attached to the lease of a shared session.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { execute } from "../../backend/KvBackend.ts"
import * as Compare from "../../values/Compare.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import { inChildScope } from "../childScope.ts"
import * as heldKeys from "../kv/heldKeys.ts"
import { Turns } from "../kv/turns.ts"
import * as deletion from "../session/awaitDeletion.ts"
import * as leasedKey from "../session/leasedKey.ts"
import type { SessionPool } from "../session/sessionPool.ts"
import type { SharedSession } from "../session/sharedSession.ts"
import * as useSession from "../session/useSession.ts"
import { type Held, hex, type Kept, type Taken, takenBy } from "./keptKey.ts"
import { TempKeyTaken } from "./tempKeyErrors.ts"

/**
 * Creates the key, or waits until that is possible if another client has it and the options say so. `onTaken` runs
 * the first time another client is found to have the key.
 */
export const obtain = Effect.fnUntraced(function*(
  kept: Kept,
  outer: Scope.Scope,
  onTaken: (taken: Taken) => Effect.Effect<void>
): Effect.fn.Return<Held, KvError.KvError | TempKeyTaken> {
  let isNotified = false
  let condition = Compare.missing(kept.key)
  while (true) {
    const found = yield* create(kept, outer, condition)
    if (found._tag === "Held") {
      kept.own.clear()
      kept.own.add(found.session.lease)
      return kept.held = found
    }
    if (!found.exists) {
      condition = Compare.missing(kept.key)
      continue
    }
    const own = Option.filter(
      found.lease,
      (lease) => kept.own.has(lease) || releasedBy(kept.sessions).get(lease)?.has(kept.rootKey) === true
    )
    if (Option.isSome(own)) {
      // On a lease that this client has lost or released: it may be taken over, and only from that lease.
      condition = Compare.lease(kept.key, "=", own.value)
      continue
    }
    condition = Compare.missing(kept.key)
    if (kept.options?.onTaken !== "wait") {
      return yield* new TempKeyTaken({ key: kept.key, lease: found.lease })
    }
    if (!isNotified) yield* onTaken(found)
    isNotified = true
    yield* untilDeleted(kept, found.revision)
  }
})

/**
 * Puts the key if the condition holds. The key is removed when the outer scope or the result's scope closes.
 *
 * The fibers of a client put a key one at a time. If several did at once, each would need a lease of its own, although
 * at most one of them can have the key.
 */
const create = Effect.fnUntraced(function*(
  kept: Kept,
  outer: Scope.Scope,
  condition: Compare.Compare
): Effect.fn.Return<Held | Taken, KvError.KvError> {
  const inTime = yield* useSession.fromNow
  return yield* turnsOf(kept.sessions).run(kept.rootKey, () => inTime(createNow(kept, outer, condition)))
})

const makers = new WeakMap<SessionPool, Turns<never>>()

const turnsOf = (sessions: SessionPool): Turns<never> => {
  const turns = makers.get(sessions) ?? new Turns<never>()
  makers.set(sessions, turns)
  return turns
}

const createNow = (
  kept: Kept,
  outer: Scope.Scope,
  condition: Compare.Compare
): Effect.Effect<Held | Taken, KvError.KvError> =>
  inChildScope(
    (scope) =>
      useSession.withLive(
        kept.sessions,
        kept.options?.ttl,
        scope,
        (session) => put(kept, session, scope, condition)
      ),
    (exit) => Exit.isSuccess(exit) && exit.value._tag === "Held"
  ).pipe(Scope.provide(outer))

const put = Effect.fnUntraced(function*(
  kept: Kept,
  session: SharedSession,
  scope: Scope.Closeable,
  condition: Compare.Compare
): Effect.fn.Return<Held | Taken, KvError.KvError> {
  const { backends, key, rootKey } = kept
  // A temporary key is recognised by its lease, so a lease can hold one temporary key of a name. A second one needs
  // another session.
  const claimed = `temporary ${rootKey}`
  if (!session.tryClaim(claimed)) {
    yield* session.retire
    return yield* KvError.fail(
      new KvError.LeaseNotFound({ message: `the lease has a temporary key ${JSON.stringify(key)} already` })
    )
  }
  const token = session.claim(hex(session.lease))
  kept.claim.lease = session.lease
  let isWritten = true
  const released = yield* releasedOn(kept.sessions, session)
  const onGone = () => {
    released.delete(rootKey)
    session.unclaim(token)
    session.unclaim(claimed)
  }
  const write: Effect.Effect<Written | Taken, KvError.KvError> = Effect.map(
    execute(
      backends.make,
      Op.txn({
        if: [condition],
        then: [Op.put(key, kept.persistence?.valueNow() ?? kept.value ?? token, { lease: session.lease })],
        // With its value: `keysOnly` would leave out the lease.
        else: [Op.get(key)]
      })
    ),
    (response): Written | Taken =>
      response.succeeded
        ? { _tag: "Written", revision: response.revision }
        : takenBy(response.responses[0].entries[0], response.revision)
  )
  kept.own.add(session.lease)
  const { result } = yield* leasedKey.write({
    backend: backends.unfenced,
    session,
    key,
    write: Effect.provideService(write, heldKeys.Claiming, kept.claim),
    identify: (result: Written | Taken) => result._tag === "Taken" ? undefined : Compare.lease(key, "=", session.lease),
    onRemove: () => {
      if (isWritten) released.add(rootKey)
    },
    onGone
  }, scope)
  if (result._tag === "Written") return { _tag: "Held", scope, session, revision: result.revision, isReplaced: false }
  // Nothing was written, so there is nothing to remove.
  isWritten = false
  kept.own.delete(session.lease)
  onGone()
  return result
})

interface Written {
  readonly _tag: "Written"
  readonly revision: bigint
}

/** Waits until another client's key is deleted, or until a retry is due because the watch failed. */
const untilDeleted = (kept: Kept, revision: bigint): Effect.Effect<void, KvError.KvError> =>
  Effect.scopedWith((scope) =>
    Effect.flatMap(
      Scope.provide(
        kept.backends.unfenced.watch({
          range: KeyRange.key(kept.key),
          only: "Delete",
          startRevision: revision + 1n
        }),
        scope
      ),
      (watcher) => Effect.asVoid(watcher.take)
    )
  ).pipe(
    Effect.catch((error) => deletion.isPassing(error) ? Effect.sleep(deletion.retryInterval) : Effect.fail(error))
  )

/**
 * The temporary keys of a client whose removal has begun and is not known to have succeeded, by lease. If such a key is
 * made again meanwhile, the new one takes it over instead of failing because it exists.
 */
const released = new WeakMap<SessionPool, Map<bigint, Set<string>>>()

const releasedBy = (sessions: SessionPool): Map<bigint, Set<string>> => {
  const known = released.get(sessions) ?? new Map<bigint, Set<string>>()
  released.set(sessions, known)
  return known
}

const releasedOn = Effect.fnUntraced(function*(sessions: SessionPool, session: SharedSession) {
  const byLease = releasedBy(sessions)
  const known = byLease.get(session.lease)
  if (known !== undefined) return known
  const keys = new Set<string>()
  byLease.set(session.lease, keys)
  yield* Scope.addFinalizer(session.scope, Effect.sync(() => byLease.delete(session.lease)))
  return keys
})
