/**
 * How a `TempKey` is kept: created under a shared session's lease if it does not exist, watched, and created again when
 * it is gone.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import * as Compare from "../../values/Compare.ts"
import type { Entry, Value } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import * as heldKeys from "../kv/heldKeys.ts"
import { Turns } from "../kv/turns.ts"
import * as deletion from "../session/awaitDeletion.ts"
import * as attachedKey from "../session/leasedKey.ts"
import type { SessionPool } from "../session/sessionPool.ts"
import type { SharedSession } from "../session/sharedSession.ts"
import * as useSession from "../session/useSession.ts"
import type { Options, Status, TempKey } from "./model.ts"
import { TempKeyLost, TempKeyTaken } from "./tempKeyErrors.ts"

/** The backends of a temporary key. */
export interface Backends {
  /** For the writes that make the key and set its value: guarded as the caller's own writes are. */
  readonly make: KvBackend
  /** For everything else. Never fenced: removing the key must not depend on a lock. */
  readonly unfenced: KvBackend
  /** What their keys begin with at the client's root. */
  readonly prefix: string
}

/** Makes a temporary key, which exists when this returns and until the scope closes. */
export const open = Effect.fnUntraced(function*(
  backends: Backends,
  sessions: SessionPool,
  key: string,
  options?: Options
): Effect.fn.Return<TempKey, KvError.KvError | TempKeyTaken, Scope.Scope> {
  const scope = yield* Effect.scope
  const gone = yield* Deferred.make<never, TempKeyLost | TempKeyTaken>()
  const setting = yield* Semaphore.make(1)
  const kept: Kept = {
    backends,
    sessions,
    key,
    rootKey: backends.prefix + key,
    options,
    value: copied(options?.value),
    claim: heldKeys.claim(),
    held: undefined,
    own: new Set()
  }
  const closed = new TempKeyLost({ key, how: "its scope was closed" })
  yield* Effect.addFinalizer(() => Deferred.fail(gone, closed))

  // A scope of its own, so that what keeps the key is stopped before the key is removed.
  const outer = yield* Scope.fork(scope)
  const release = Effect.sync(() => heldKeys.release(kept.claim))
  yield* Effect.addFinalizer(() => release)
  const first = yield* Effect.onError(
    obtain(kept, outer, (taken) => warn(kept, "taken", taken.lease, howTaken)),
    () => release
  )
  const state = yield* SubscriptionRef.make<State>({ status: heldStatus(first), isFinal: false })
  const become = (status: Status, isFinal = false) => SubscriptionRef.set(state, { status, isFinal })
  const end = (error: TempKeyLost | TempKeyTaken) =>
    Effect.andThen(
      become(
        error._tag === "TempKeyLost" ? { _tag: "Lost", how: error.how } : { _tag: "Taken", lease: error.lease },
        true
      ),
      Effect.andThen(release, Deferred.fail(gone, error))
    )
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      kept.held = undefined
      return Deferred.isDoneUnsafe(gone) ? Effect.void : become({ _tag: "Lost", how: closed.how }, true)
    })
  )

  /** Tells of the loss once, and waits until the key can be made again. Fails when it is not to be. */
  const recover = Effect.fnUntraced(function*(
    held: Held,
    loss: Loss
  ): Effect.fn.Return<Held, KvError.KvError | TempKeyLost | TempKeyTaken> {
    kept.held = undefined
    const taken = (lease: Option.Option<bigint>) =>
      Effect.andThen(warn(kept, "taken", lease, howTaken), become({ _tag: "Taken", lease }))
    if (loss._tag === "Taken") yield* taken(loss.lease)
    else {
      yield* warn(kept, "lost", Option.some(held.session.lease), loss.how)
      yield* become({ _tag: "Lost", how: loss.how })
      yield* held.session.verify
    }
    yield* Scope.close(held.scope, Exit.void)
    if (loss._tag === "Taken" && options?.onTaken !== "wait") return yield* new TempKeyTaken({ key, lease: loss.lease })
    if (options?.onLost === "fail") {
      return yield* loss._tag === "Taken"
        ? new TempKeyTaken({ key, lease: loss.lease })
        : new TempKeyLost({ key, how: loss.how })
    }
    // Another client that writes to the key has been told of already.
    let isTold = loss._tag === "Taken"
    const again = yield* patiently(obtain(kept, outer, ({ lease }) =>
      Effect.suspend(() => {
        if (isTold) return Effect.void
        isTold = true
        return taken(lease)
      }))).pipe(
        Effect.tapError((error) =>
          error._tag === "TempKeyTaken" ? warn(kept, "taken", error.lease, howTaken) : Effect.void
        )
      )
    yield* warn(kept, "made again", Option.some(again.session.lease), loss._tag === "Taken" ? howTaken : loss.how)
    yield* become(heldStatus(again))
    return again
  })

  const keep = Effect.gen(function*(): Effect.fn.Return<never, KvError.KvError | TempKeyLost | TempKeyTaken> {
    let held = first
    while (true) {
      const loss = yield* untilLost(kept, held)
      if (held.session.scope.state._tag === "Closed") return yield* clientClosed(key)
      held = yield* recover(held, loss)
    }
  })

  yield* keep.pipe(
    Effect.catch((error) => {
      if (error._tag !== "KvError") return end(error)
      if (error.reason._tag === "Closed") return end(clientClosed(key))
      return Effect.andThen(
        warn(kept, "given up", Option.none(), error.message),
        end(new TempKeyLost({ key, how: `it cannot be made again: ${error.message}` }))
      )
    }),
    Effect.forkScoped
  )

  const notHeld: Effect.Effect<never, TempKeyLost | TempKeyTaken> = Effect.flatMap(
    SubscriptionRef.get(state),
    ({ status }) =>
      Effect.fail(
        status._tag === "Taken"
          ? new TempKeyTaken({ key, lease: status.lease })
          : new TempKeyLost({ key, how: status._tag === "Lost" ? status.how : "it is being made again" })
      )
  )

  const ofHeld = <A>(f: (held: Held) => A) => Effect.sync(() => Option.map(Option.fromUndefinedOr(kept.held), f))
  return {
    key,
    lease: ofHeld((held) => held.session.lease),
    revision: ofHeld((held) => held.revision),
    set: (value) => Semaphore.withPermit(setting, Effect.suspend(() => setValue(kept, copied(value)!, notHeld))),
    status: SubscriptionRef.changes(state).pipe(
      Stream.takeUntil(({ isFinal }) => isFinal),
      Stream.map(({ status }) => status)
    ),
    lost: Deferred.await(gone)
  }
})

interface State {
  readonly status: Status
  readonly isFinal: boolean
}

/** What is known of a temporary key. */
interface Kept {
  readonly backends: Backends
  readonly sessions: SessionPool
  readonly key: string
  /** The key at the client's root: another namespace of the client may have another name for it. */
  readonly rootKey: string
  readonly options: Options | undefined
  /** The value to make it again with; `undefined` for a token. */
  value: Value | undefined
  readonly claim: heldKeys.Claim
  /** The key in the store, while this client has it. */
  held: Held | undefined
  /** The leases that this client may have put the key with. One that it lost may live on in the store, with the key. */
  readonly own: Set<bigint>
}

/** The key as it was put last. */
interface Held {
  readonly _tag: "Held"
  readonly scope: Scope.Closeable
  readonly session: SharedSession
  revision: bigint
  /** Whether the store was replaced since: then the revision is another store's, and says nothing. */
  isReplaced: boolean
}

/** The condition did not hold: another client has the key, or it does not exist, at this revision of the store. */
interface Taken {
  readonly _tag: "Taken"
  readonly exists: boolean
  readonly lease: Option.Option<bigint>
  readonly revision: bigint
}

/** How a key that was held came to an end. */
type Loss = { readonly _tag: "Lost"; readonly how: string } | Taken

const howTaken = "another client has the key"
const howDeleted = "it was deleted, or its lease ended"

const heldStatus = ({ revision, session }: Held): Status => ({ _tag: "Held", lease: session.lease, revision })

const clientClosed = (key: string) => new TempKeyLost({ key, how: "the client was closed" })

const copied = (value: Value | undefined): Value | undefined => value instanceof Uint8Array ? value.slice() : value

const warn = (kept: Kept, event: string, lease: Option.Option<bigint>, how: string) =>
  Effect.logWarning(`effect-kv: temporary key ${event}`).pipe(
    Effect.annotateLogs({ key: kept.key, lease: Option.match(lease, { onNone: () => "none", onSome: hex }), how })
  )

const hex = (lease: bigint): string => lease.toString(16)

/** Notes a value of the key that the store is known to have, unless a later one is known. */
const note = (kept: Kept, held: Held, revision: bigint, value: Value): void => {
  if (revision <= held.revision && !held.isReplaced) return
  held.isReplaced = false
  held.revision = revision
  kept.value = value
}

/**
 * Creates the key, or waits until that is possible if another client has it and the options say so. `onTaken` runs each
 * time the key is found taken before it is waited for.
 */
const obtain = Effect.fnUntraced(function*(
  kept: Kept,
  outer: Scope.Scope,
  onTaken: (taken: Taken) => Effect.Effect<void>
): Effect.fn.Return<Held, KvError.KvError | TempKeyTaken> {
  let isTold = false
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
    if (!isTold) yield* onTaken(found)
    isTold = true
    yield* untilDeleted(kept, found.revision)
  }
})

/**
 * Puts the key if the condition holds, until the outer scope closes or that of what is held does.
 *
 * Of one client, one at a time puts a key. If several did at once, each would need a lease of its own, although at most one
 * of them can have the key.
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
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Scope.fork(outer), (scope) =>
      Effect.onExit(
        restore(
          useSession.withLive(
            kept.sessions,
            kept.options?.ttl,
            scope,
            (session) => put(kept, session, scope, condition)
          )
        ),
        (exit) => Exit.isSuccess(exit) && exit.value._tag === "Held" ? Effect.void : Scope.close(scope, exit)
      ))
  )

const put = Effect.fnUntraced(function*(
  kept: Kept,
  session: SharedSession,
  scope: Scope.Closeable,
  condition: Compare.Compare
): Effect.fn.Return<Held | Taken, KvError.KvError> {
  const { backends, key, rootKey } = kept
  // The lease tells a temporary key of ours from others. So of the same name there is one to a lease, and a second one
  // stands on another session.
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
        then: [Op.put(key, kept.value ?? token, { lease: session.lease })],
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
  const { answer } = yield* attachedKey.write({
    backend: backends.unfenced,
    session,
    key,
    write: Effect.provideService(write, heldKeys.Claiming, kept.claim),
    identify: (answer: Written | Taken) => answer._tag === "Taken" ? undefined : Compare.lease(key, "=", session.lease),
    onRemove: () => {
      if (isWritten) released.add(rootKey)
    },
    onGone
  }, scope)
  if (answer._tag === "Written") return { _tag: "Held", scope, session, revision: answer.revision, isReplaced: false }
  // Nothing was written, so there is nothing that a removal could find gone.
  isWritten = false
  kept.own.delete(session.lease)
  onGone()
  return answer
})

interface Written {
  readonly _tag: "Written"
  readonly revision: bigint
}

const takenBy = (entry: Entry | undefined, revision: bigint): Taken => ({
  _tag: "Taken",
  exists: entry !== undefined,
  lease: entry === undefined ? Option.none() : entry.lease,
  revision
})

/**
 * The temporary keys of a client whose removal has begun and is not known to have succeeded, by the leases they are on: one
 * that is made again meanwhile takes over the key instead of failing because it exists.
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

/** Writes a value, if the key is as this client knows it. */
const setValue = (
  kept: Kept,
  value: Value,
  notHeld: Effect.Effect<never, TempKeyLost | TempKeyTaken>
): Effect.Effect<bigint, KvError.KvError | TempKeyLost | TempKeyTaken> =>
  Effect.suspend(() => {
    const { backends, held, key } = kept
    if (held === undefined) return notHeld
    const { lease } = held.session
    const known = held.revision
    // On the revision too: a value whose write is still on its way must not replace one that was set after it.
    const write = execute(
      backends.make,
      Op.txn({
        if: [Compare.lease(key, "=", lease), Compare.modRevision(key, "=", held.revision)],
        then: [Op.put(key, value, { lease })],
        else: [Op.get(key)]
      })
    )
    return Effect.flatMap(write, (response) => {
      if (response.succeeded) {
        note(kept, held, response.revision, value)
        return Effect.succeed(response.revision)
      }
      const entry = response.responses[0].entries[0]
      if (entry === undefined) return Effect.fail(new TempKeyLost({ key, how: howDeleted }))
      if (!isOn(entry, lease)) return Effect.fail(new TempKeyTaken({ key, lease: entry.lease }))
      // No store is behind what it was before it was asked; another one is, even if the watch does not know yet.
      if (response.revision < known) held.isReplaced = true
      note(kept, held, entry.modRevision, entry.value)
      return setValue(kept, value, notHeld)
    })
  })

const isOn = (entry: Entry, lease: bigint): boolean => Option.contains(entry.lease, lease)

/** Waits until the key is not ours any more, and notes the values that are written to it meanwhile. */
const untilLost = (kept: Kept, held: Held): Effect.Effect<Loss> =>
  Effect.raceFirst(
    Effect.map(held.session.lost, (how): Loss => ({ _tag: "Lost", how })),
    followed(kept, held, held.revision)
  )

const followed = (kept: Kept, held: Held, revision: bigint): Effect.Effect<Loss> =>
  lossAfter(kept, held, revision).pipe(
    Effect.catch((error) => {
      // Whether the client was closed is for the session to tell.
      if (error.reason._tag === "Closed") return Effect.never
      if (error.reason._tag === "StoreReplaced") held.isReplaced = true
      const interval = deletion.isPassing(error) ? deletion.retryInterval : refusedInterval
      return Effect.delay(looked(kept, held), interval)
    })
  )

/** Looks where the events that would tell are lost. */
const looked = (kept: Kept, held: Held): Effect.Effect<Loss> =>
  execute(kept.backends.unfenced, Op.get(kept.key)).pipe(
    Effect.flatMap((response) => {
      const entry = response.entries[0]
      if (entry === undefined) return Effect.succeed<Loss>(deleted)
      if (!isOn(entry, held.session.lease)) return Effect.succeed<Loss>(takenBy(entry, response.revision))
      note(kept, held, entry.modRevision, entry.value)
      return followed(kept, held, response.revision)
    }),
    Effect.catch((error) =>
      error.reason._tag === "Closed"
        ? Effect.never
        : Effect.delay(looked(kept, held), deletion.isPassing(error) ? deletion.retryInterval : refusedInterval)
    )
  )

const deleted: Loss = { _tag: "Lost", how: howDeleted }

/** Pause before what was rejected is tried again: a token or a permission may come back. */
const refusedInterval = "2 seconds"

const lossAfter = (kept: Kept, held: Held, revision: bigint): Effect.Effect<Loss, KvError.KvError> =>
  Effect.scopedWith(Effect.fnUntraced(function*(scope) {
    const request = { range: KeyRange.key(kept.key), startRevision: revision + 1n }
    const watcher = yield* Scope.provide(kept.backends.unfenced.watch(request), scope)
    while (true) {
      for (const { events: [event] } of yield* watcher.take) {
        if (event._tag === "Delete") return deleted
        if (!isOn(event.entry, held.session.lease)) return takenBy(event.entry, event.revision)
        note(kept, held, event.revision, event.entry.value)
      }
    }
  }))

/** Waits until the key that another client has is deleted, or that cannot be told. */
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

/** Tries again for as long as the store is out of reach. */
const patiently = <A, E>(effect: Effect.Effect<A, KvError.KvError | E>): Effect.Effect<A, KvError.KvError | E> =>
  Effect.catch(effect, (error) =>
    KvError.isKvError(error) && isOutOfReach(error)
      ? Effect.delay(patiently(effect), deletion.retryInterval)
      : Effect.fail(error))

/**
 * Whether the key may be made when it is tried again: the call changed nothing and may succeed another time, its outcome is
 * unknown, or it was the lease or the token that ended.
 */
const isOutOfReach = (error: KvError.KvError): boolean =>
  error.isRetryable || error.outcome === "Unknown" || error.reason._tag === "LeaseNotFound" ||
  error.reason._tag === "StoreReplaced" || error.reason._tag === "Unauthenticated"
