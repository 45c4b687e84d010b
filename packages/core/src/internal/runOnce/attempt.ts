/**
 * One run: it starts with a transaction that puts the record and the runner's key, and ends with one that puts the
 * outcome and deletes that key.
 *
 * The runner's key is attached to a session's lease. While it exists no other run can start, and every write of the
 * run is conditional on it. A run whose key is lost is interrupted, and the record keeps saying `Running`: without the key
 * that means that the runner crashed.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { execute } from "../../backend/KvBackend.ts"
import * as Fence from "../../service/Fence.ts"
import * as Compare from "../../values/Compare.ts"
import * as KvError from "../../values/KvError.ts"
import { LockHoldExceeded, LockLost } from "../../values/LockError.ts"
import * as Op from "../../values/Op.ts"
import * as internals from "../kv/internals.ts"
import type { LockMetrics } from "../metrics/client.ts"
import * as holdings from "../queue/holdings.ts"
import type { HoldSpan } from "../queue/holdSpan.ts"
import * as holdSpan from "../queue/holdSpan.ts"
import * as lockSpans from "../queue/lockSpans.ts"
import * as leasedKey from "../session/leasedKey.ts"
import * as renewal from "../session/renewal.ts"
import type { SharedSession } from "../session/sharedSession.ts"
import * as useSession from "../session/useSession.ts"
import * as model from "./model.ts"
import type { Place } from "./place.ts"

export interface Options {
  readonly description?: string | undefined
  readonly ttl?: Duration.Input | undefined
  readonly maxHold?: Duration.Input | undefined
}

/** The run to start, and the record that the caller has seen: another one prevents the start. */
export interface Start {
  readonly tick: string | undefined
  readonly attempt: number
  readonly seen: { readonly record: model.Record | undefined; readonly revision: bigint }
}

/**
 * Runs the function of the token if the run can be started, and returns its exit; `none` if another client has started
 * a run, or changed the record.
 *
 * Fails only if nothing was run.
 */
export const make = <A, E, R>(
  place: Place,
  start: Start,
  f: (run: model.Run) => Effect.Effect<A, E, R>,
  options: Options | undefined
): Effect.Effect<Option.Option<Exit.Exit<A, E | LockLost | LockHoldExceeded>>, KvError.KvError, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const { sessions } = internals.of(place.kv)
      const scope = yield* Scope.make()
      const end = (exit: Exit.Exit<unknown, unknown>) => sessions.onClock(Scope.close(scope, exit))
      const started = yield* restore(sessions.onClock(begin(place, start, options, scope))).pipe(
        Effect.onExit((exit) => Exit.isSuccess(exit) && exit.value !== undefined ? Effect.void : end(exit))
      )
      if (started === undefined) return Option.none()
      const ended: { exit?: Exit.Exit<A, E> } = {}
      const work = Effect.suspend(() => f({ name: place.name, token: started.token, attempt: start.attempt }))
      const body = holdSpan.inside(started.span?.span, work).pipe(
        Fence.provide(fenceOf(place, started)),
        (body) =>
          Effect.withFiber<A, E, R>((fiber) =>
            Effect.provideService(body, holdings.Holdings, [
              ...fiber.getRef(holdings.Holdings),
              holdings.make(place.kv, [claimOf(place.name)], fiber.id)
            ])
          ),
        Effect.onExit((exit) => Effect.sync(() => (ended.exit = exit)))
      )
      started.ending = { ...started.ending, state: "Interrupted" }
      const limits = options?.maxHold === undefined
        ? [lossOf(place, started)]
        : [lossOf(place, started), sessions.onClock(holdExceeded(place, started, options.maxHold))]
      const exit = yield* Effect.exit(restore(Effect.raceAllFirst([body, ...limits])))
      if (!isHeld(started)) lose(started, "it was not held any more when its work was done")
      started.ending = { ...started.ending, state: stateAfter(exit, ended.exit) }
      yield* end(exit)
      if (started.ending.state !== "Interrupted") yield* restore(sessions.onClock(untilRecorded(started)))
      return Option.some(yield* Effect.exit(outcomeOf(started, exit, ended.exit)))
    })
  )

/** What a run holds, to detect a fiber that would wait for its own run. */
export const claimOf = (name: string): holdings.Claimed => ({
  name,
  claim: { id: `${model.runKeyOf(name)}|once`, weight: 1, limit: 1 }
})

/** A run that was started. */
interface Started {
  readonly token: bigint
  readonly session: SharedSession
  readonly attachment: leasedKey.Attachment
  /** Fails with the loss of the runner's key, or when the client closes. */
  readonly lost: Deferred.Deferred<never, LockLost>
  /** Completes when the runner's key is known not to exist. */
  readonly gone: Deferred.Deferred<void>
  readonly name: string
  readonly metrics: LockMetrics
  /** The span of the run; `undefined` if no tracer is installed. */
  span: HoldSpan | undefined
  /** The record that the end of the run puts; as long as the run has not begun, the end restores the record before. */
  ending: Partial<model.Record>
}

const begin = (
  { kv, name }: Place,
  { attempt, seen, tick }: Start,
  options: Options | undefined,
  scope: Scope.Scope
): Effect.Effect<Started | undefined, KvError.KvError> =>
  Effect.gen(function*() {
    const { origin, sessions, unfenced } = internals.of(kv)
    const recordKey = model.recordKeyOf(name)
    const runKey = model.runKeyOf(name)
    const by = options?.description ?? ""
    const record = (state: model.Record["state"]): model.Record => ({
      ...(tick === undefined ? {} : { tick }),
      state,
      by,
      attempts: attempt
    })
    const lost = Deferred.makeUnsafe<never, LockLost>()
    let started: Started | undefined
    const leave = sessions.holders.add({
      onClosing: () => started === undefined ? undefined : lose(started, clientCloses),
      // The run is interrupted by the loss, and then ends.
      isAwaited: () => started !== undefined
    })
    // The first finalizer to be added, so it runs after the key was removed.
    yield* Scope.addFinalizer(
      scope,
      Effect.sync(() => {
        leave()
        started?.metrics.ended()
        started?.span?.released()
      })
    )

    return yield* useSession.withLive(sessions, options?.ttl, scope, (session) =>
      Effect.gen(function*() {
        // A key whose write had an unknown outcome is recognised by its lease, so a lease has one run of a name. If
        // another fiber of this client has claimed it, that one starts the run, or has started it.
        const claimed = `run ${origin.prefix}${name}`
        if (!session.tryClaim(claimed)) return undefined
        const gone = Deferred.makeUnsafe<void>()
        const onGone = () => {
          session.unclaim(claimed)
          Deferred.doneUnsafe(gone, Effect.void)
        }
        let stopLoss = () => {}
        const logged = { kind, lock: name, token: 0n }
        const { attachment, result } = yield* leasedKey.write({
          backend: unfenced,
          session,
          key: runKey,
          write: Effect.map(
            execute(
              unfenced,
              Op.txn({
                if: [Compare.modRevision(recordKey, "=", seen.revision), Compare.missing(runKey)],
                then: [
                  Op.put(recordKey, model.encode(record("Running"))),
                  Op.put(runKey, by, { lease: session.lease })
                ]
              })
            ),
            (response): bigint | undefined => response.succeeded ? response.revision : undefined
          ),
          identify: (token: bigint | undefined) =>
            token === undefined ? undefined : Compare.createRevision(runKey, "=", token),
          removedWith: () => {
            if (started?.ending.state !== undefined) {
              return [Op.put(recordKey, model.encode(record(started.ending.state)))]
            }
            return [seen.record === undefined ? Op.delete(recordKey) : Op.put(recordKey, model.encode(seen.record))]
          },
          // Or the key is gone for another reason, and no outcome was recorded.
          wasRemoved: () =>
            Effect.map(
              execute(unfenced, Op.get(recordKey)),
              ({ entries: [entry] }) =>
                started?.ending.state !== undefined && entry !== undefined && entry.modRevision > started.token &&
                entry.lossyText === model.encode(record(started.ending.state))
            ),
          onRemove: () => {
            stopLoss()
            if (session.isAliveUnsafe()) session.locks.delete(logged)
          },
          onGone
        }, scope)
        if (result === undefined) {
          onGone()
          return undefined
        }
        const metrics = sessions.metrics.lock(kind)
        metrics.held()
        const held: Started = {
          token: result,
          session,
          attachment,
          lost,
          gone,
          name,
          metrics,
          span: undefined,
          ending: {}
        }
        started = held
        logged.token = result
        session.locks.add(logged)
        held.span = yield* lockSpans.hold(kind, name, result)
        stopLoss = session.onLost((reason) => lose(held, reason))
        return held
      }))
  })

const isHeld = ({ lost, session }: Started): boolean => !Deferred.isDoneUnsafe(lost) && session.isAliveUnsafe()

const lose = ({ lost, metrics, name, span, token }: Started, reason: string): void => {
  const error = new LockLost({ kind, lock: name, token, reason })
  if (!Deferred.doneUnsafe(lost, Effect.fail(error))) return
  if (reason === clientCloses || renewal.isOrderly(reason)) return
  metrics.lost(renewal.causeOf(reason) ?? (reason === keyDeleted ? "KeyDeleted" : "Rejected"))
  span?.lost(Exit.fail(error))
}

/** What a run is in messages, metrics and spans. */
const kind = "run" as const

const keyDeleted = "its key was deleted"
const clientCloses = "its client is being closed"

const fenceOf = ({ kv, name }: Place, started: Started): Fence.Fence => {
  const rejected = (reason: string) =>
    Effect.suspend(() => {
      lose(started, reason)
      return Effect.catch(Deferred.await(started.lost), KvError.fail)
    })
  return Fence.make(kv, {
    conditions: [Compare.createRevision(model.runKeyOf(name), "=", started.token)],
    isHeldUnsafe: () => isHeld(started),
    notHeld: rejected("its lease could not be renewed in time"),
    rejected: rejected("a fenced write was rejected because the run is not in progress any more")
  })
}

/** Fails with the loss of the runner's key. The outcome of the work is unknown. */
const lossOf = ({ name, run }: Place, started: Started): Effect.Effect<never, LockLost> => {
  const { lost, token } = started
  const isGone = run.waitUntil(({ entries, revision }) =>
    revision >= token && entries.get(model.runKeyOf(name))?.createRevision !== token
  )
  const deleted = Effect.matchEffect(isGone, {
    // The view ends with its client, which is a loss of its own.
    onFailure: () => Effect.never,
    onSuccess: () => Effect.sync(() => lose(started, keyDeleted))
  })
  return Effect.mapError(
    Effect.andThen(Effect.raceFirst(deleted, Effect.exit(Deferred.await(lost))), Deferred.await(lost)),
    unknownOutcome
  )
}

const unknownOutcome = ({ lock, reason, token }: LockLost): LockLost =>
  new LockLost({ kind, lock, token, reason, outcome: "Unknown" })

const holdExceeded = (
  { name }: Place,
  { token }: Started,
  maxHold: Duration.Input
): Effect.Effect<never, LockHoldExceeded> =>
  Effect.andThen(
    Effect.sleep(maxHold),
    Effect.failSync(() =>
      new LockHoldExceeded({
        kind,
        lock: name,
        token,
        maxHoldMillis: Duration.toMillis(Duration.fromInputUnsafe(maxHold))
      })
    )
  )

/** A run that was interrupted, by its caller or by a loss, has not ended by itself. A run that took too long has failed. */
const stateAfter = (
  exit: Exit.Exit<unknown, unknown>,
  body: Exit.Exit<unknown, unknown> | undefined
): "Done" | "Failed" | "Interrupted" => {
  if (Exit.isSuccess(exit)) return "Done"
  const error = Option.getOrUndefined(Exit.findErrorOption(exit))
  if (error instanceof LockHoldExceeded) return "Failed"
  return error instanceof LockLost || body === undefined || Exit.hasInterrupts(body) ? "Interrupted" : "Failed"
}

/** Waits until the store has recorded the outcome, or the session that could record it has ended. */
const untilRecorded = ({ gone, session }: Started): Effect.Effect<void> =>
  Effect.asVoid(Effect.raceFirst(Deferred.await(gone), session.lostReason))

/**
 * The exit of the run. A success that may not have been recorded is a loss, and the failures of the work follow those
 * of the run.
 */
const outcomeOf = <A, E>(
  started: Started,
  exit: Exit.Exit<A, E | LockLost | LockHoldExceeded>,
  body: Exit.Exit<A, E> | undefined
): Effect.Effect<A, E | LockLost | LockHoldExceeded> =>
  Effect.suspend(() => {
    const { attachment, lost } = started
    if (Exit.isSuccess(exit) && attachment.removal !== "Found") {
      lose(started, "its outcome could not be recorded in time")
    }
    return Deferred.isDoneUnsafe(lost)
      ? Effect.flatMap(Effect.flip(Deferred.await(lost)), (loss) =>
        Effect.failCause(
          Cause.fromReasons<E | LockLost | LockHoldExceeded>([
            Cause.makeFailReason(unknownOutcome(loss)),
            ...ownReasons(started, body, exit)
          ])
        ))
      : exit
  })

/** The failures besides the loss. Whether the work was also interrupted only shows which fiber was faster. */
const ownReasons = <E>(
  { token }: Started,
  ...exits: ReadonlyArray<Exit.Exit<unknown, E> | undefined>
): ReadonlyArray<Cause.Reason<E>> => {
  const reasons = exits.flatMap((exit) => exit !== undefined && Exit.isFailure(exit) ? exit.cause.reasons : [])
  return [...new Set(reasons)].filter((reason) => {
    if (Cause.isInterruptReason(reason)) return false
    const failure = Cause.isFailReason(reason) ? reason.error : reason.defect
    const loss = KvError.isKvError(failure) ? failure.reason : failure
    return !(loss instanceof LockLost && loss.token === token)
  })
}
