/**
 * A temporary key: created under a shared session's lease if it does not exist, followed, and created again when it is
 * gone.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { execute } from "../../backend/KvBackend.ts"
import * as Compare from "../../values/Compare.ts"
import type { Value } from "../../values/Entry.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import * as heldKeys from "../kv/heldKeys.ts"
import * as deletion from "../session/awaitDeletion.ts"
import type { SessionPool } from "../session/sessionPool.ts"
import * as spans from "../tracing/spans.ts"
import { obtain } from "./createKey.ts"
import { untilLost } from "./followKey.ts"
import type { Backends, Held, Kept, Loss, Persistence } from "./keptKey.ts"
import { deletedReason, hex, isOn, note, takenReason } from "./keptKey.ts"
import type { Options, Status, TempKey } from "./model.ts"
import { TempKeyLost, TempKeyTaken, unknownOutcome } from "./tempKeyErrors.ts"

/**
 * Makes a temporary key. It exists when this returns, and until the scope closes.
 *
 * With `persistence`, it waits while the store cannot be reached, and `persistence` decides whether making a lost key
 * again is repeated after the store has rejected it.
 */
export const open = Effect.fnUntraced(function*(
  backends: Backends,
  sessions: SessionPool,
  key: string,
  options?: Options,
  persistence?: Persistence
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
    persistence,
    claim: heldKeys.claim(),
    held: undefined,
    own: new Set()
  }
  const closed = new TempKeyLost({ key, reason: "its scope was closed" })
  yield* Effect.addFinalizer(() => Deferred.fail(gone, closed))

  // A scope of its own, so that the fiber that keeps the key stops before the key is removed.
  const outer = yield* Scope.fork(scope)
  const release = Effect.sync(() => heldKeys.release(kept.claim))
  yield* Effect.addFinalizer(() => release)
  const obtaining = obtain(kept, outer, (taken) => warn(kept, "taken", taken.lease, takenReason))
  const first = yield* Effect.onError(
    persistence === undefined ? obtaining : throughOutage(obtaining, isUnreachable),
    () => release
  )
  const metrics = sessions.metrics.tempKey()
  yield* Effect.addFinalizer(() => Effect.sync(() => metrics.ended()))
  const state = yield* SubscriptionRef.make<State>({ status: heldStatus(first), isFinal: false })
  const become = (status: Status, isFinal = false) => SubscriptionRef.set(state, { status, isFinal })
  const end = (error: TempKeyLost | TempKeyTaken) =>
    Effect.andThen(
      become(
        error._tag === "TempKeyLost" ? { _tag: "Lost", reason: error.reason } : { _tag: "Taken", lease: error.lease },
        true
      ),
      Effect.andThen(release, Deferred.fail(gone, error))
    )
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      kept.held = undefined
      return Deferred.isDoneUnsafe(gone) ? Effect.void : become({ _tag: "Lost", reason: closed.reason }, true)
    })
  )

  /** Logs the loss once, and makes the key again as soon as possible. Fails if it must not be made again. */
  const recover = Effect.fnUntraced(function*(
    held: Held,
    loss: Loss
  ): Effect.fn.Return<Held, KvError.KvError | TempKeyLost | TempKeyTaken> {
    kept.held = undefined
    metrics.lost(loss._tag)
    const taken = (lease: Option.Option<bigint>) =>
      Effect.andThen(warn(kept, "taken", lease, takenReason), become({ _tag: "Taken", lease }))
    if (loss._tag === "Taken") yield* taken(loss.lease)
    else {
      yield* warn(kept, "lost", Option.some(held.session.lease), loss.reason)
      yield* become({ _tag: "Lost", reason: loss.reason })
      yield* held.session.verify
    }
    yield* Scope.close(held.scope, Exit.void)
    if (loss._tag === "Taken" && options?.onTaken !== "wait") return yield* new TempKeyTaken({ key, lease: loss.lease })
    if (options?.onLost === "fail") {
      return yield* loss._tag === "Taken"
        ? new TempKeyTaken({ key, lease: loss.lease })
        : new TempKeyLost({ key, reason: loss.reason })
    }
    // A write of another client to the key was logged already.
    let isLogged = loss._tag === "Taken"
    const obtaining = obtain(kept, outer, ({ lease }) =>
      Effect.suspend(() => {
        if (isLogged) return Effect.void
        isLogged = true
        return taken(lease)
      }))
    const again = yield* throughOutage(obtaining, (error) => mayPass(error) || persistence?.isRepeated(error) === true)
      .pipe(
        Effect.tapError((error) =>
          error._tag === "TempKeyTaken" ? warn(kept, "taken", error.lease, takenReason) : Effect.void
        )
      )
    yield* warn(kept, "made again", Option.some(again.session.lease), loss._tag === "Taken" ? takenReason : loss.reason)
    metrics.recreated()
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

  // The key is kept in the background, long after the span in which it was made has ended.
  yield* spans.without(keep).pipe(
    Effect.catch((error) => {
      if (error._tag !== "KvError") return end(error)
      if (error.reason._tag === "Closed") return end(clientClosed(key))
      return Effect.andThen(
        warn(kept, "given up", Option.none(), error.message),
        end(new TempKeyLost({ key, reason: `it cannot be made again: ${error.message}` }))
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
          : new TempKeyLost({ key, reason: status._tag === "Lost" ? status.reason : "it is being made again" })
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
    lost: Effect.mapError(Deferred.await(gone), unknownOutcome)
  }
})

interface State {
  readonly status: Status
  readonly isFinal: boolean
}

const heldStatus = ({ revision, session }: Held): Status => ({ _tag: "Held", lease: session.lease, revision })

const clientClosed = (key: string) => new TempKeyLost({ key, reason: "the client was closed" })

const copied = (value: Value | undefined): Value | undefined => value instanceof Uint8Array ? value.slice() : value

const warn = (kept: Kept, event: string, lease: Option.Option<bigint>, reason: string) =>
  Effect.logWarning(`effect-kv: temporary key ${event}`).pipe(
    Effect.annotateLogs({ key: kept.key, lease: Option.match(lease, { onNone: () => "none", onSome: hex }), reason })
  )

/** Writes a value if the key is as this client knows it; otherwise tries again with the newer state. */
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
    // The revision is compared too: a write that is still in flight must not replace a value that was set after it.
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
      if (entry === undefined) return Effect.fail(new TempKeyLost({ key, reason: deletedReason }))
      if (!isOn(entry, lease)) return Effect.fail(new TempKeyTaken({ key, lease: entry.lease }))
      // A store's revision never decreases. A smaller one belongs to another store, even if the watch has not noticed
      // yet.
      if (response.revision < known) held.isReplaced = true
      note(kept, held, entry.modRevision, entry.value)
      return setValue(kept, value, notHeld)
    })
  })

/** Repeats the effect while it fails with an error that may pass. */
const throughOutage = <A, E>(
  effect: Effect.Effect<A, KvError.KvError | E>,
  mayPass: (error: KvError.KvError) => boolean
): Effect.Effect<A, KvError.KvError | E> =>
  Effect.catch(effect, (error) =>
    KvError.isKvError(error) && mayPass(error)
      ? Effect.delay(
        throughOutage(effect, mayPass),
        error.reason._tag === "PermissionDenied" ? deletion.rejectedInterval : deletion.retryInterval
      )
      : Effect.fail(error))

/**
 * Whether another attempt may succeed: the call changed nothing and can be retried, its outcome is unknown, or only the
 * lease or the token had ended.
 */
export const mayPass = (error: KvError.KvError): boolean =>
  error.isRetryable || error.outcome === "Unknown" || error.reason._tag === "LeaseNotFound" ||
  error.reason._tag === "StoreReplaced" || error.reason._tag === "Unauthenticated"

/** Whether the store could not be reached, or had just lost a lease. Wrong credentials are an error at the start. */
const isUnreachable = (error: KvError.KvError): boolean =>
  error.isRetryable || error.reason._tag === "LeaseNotFound" || error.reason._tag === "StoreReplaced"
