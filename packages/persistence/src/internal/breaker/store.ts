/**
 * The store of Effect's circuit breaker on a `Kv`.
 *
 * A circuit is one key, changed by compare-and-set on its mod revision. The probe of a half-open circuit is a key on a
 * session's lease, so a probe whose process dies frees its place within the lease.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as Deadline from "@effect-kv/core/Deadline"
import * as Fence from "@effect-kv/core/Fence"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as LastFailure from "@effect-kv/core/LastFailure"
import * as Op from "@effect-kv/core/Op"
import * as Session from "@effect-kv/core/Session"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as leasePool from "../leasePool.ts"
import * as shared from "../shared.ts"
import * as circuit from "./circuit.ts"
import * as circuits from "./circuits.ts"

export interface Options {
  readonly prefix: string
  readonly probeLease: Duration.Input
  readonly idleTimeToLive: Duration.Input
}

/** A call waits for the store no longer than this. */
const deadline = Duration.seconds(1)

/** After so many conflicts with other processes an outcome is not recorded. */
const maxConflicts = 64

interface Pending extends circuit.Outcome {
  readonly at: number
  readonly result: Deferred.Deferred<CircuitBreaker.Transition | undefined, KvError.KvError>
}

export const make = Effect.fnUntraced(function*(
  { idleTimeToLive, prefix, probeLease }: Options
): Effect.fn.Return<CircuitBreaker.CircuitBreakerStore["Service"], never, Kv.Kv | Scope.Scope> {
  const kv = yield* Kv.Kv
  const scope = yield* Effect.scope
  const run = yield* shared.make
  const known = new circuits.Circuits()
  const leases = yield* leasePool.make(kv)
  const idleMillis = Duration.toMillis(Duration.fromInputUnsafe(idleTimeToLive))
  const instance = (yield* Random.nextInt).toString(36)
  let writes = 0
  const pending = new Map<string, Array<Pending>>()
  let isClosed = false
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      isClosed = true
      for (const key of pending.keys()) endPending(key)
    })
  )
  /** Ends the waits for outcomes that will not be recorded, because the layer closes. */
  const endPending = (key: string): void => {
    for (const { result } of pending.get(key) ?? []) Deferred.doneUnsafe(result, Exit.fail(closed))
    pending.delete(key)
  }
  /** Runs until the layer closes, whatever becomes of the caller. */
  const inBackground = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.forkIn(run(effect), scope, { startImmediately: true })

  yield* inBackground(circuits.follow(kv, prefix, known))

  const read = Effect.fnUntraced(function*(keys: circuits.Keys): Effect.fn.Return<circuits.Known, KvError.KvError> {
    const response = yield* kv.txn({ then: [Op.get(keys.circuit), Op.get(keys.probe)] })
    return yield* learned(keys, response.revision, response.responses)
  })

  const learned = (
    keys: circuits.Keys,
    revision: bigint,
    [circuit, probe]: ReadonlyArray<Op.RangeResponse>
  ): Effect.Effect<circuits.Known> =>
    Effect.map(circuits.monotonicMillis, (seenAt) => {
      const found = circuits.knownOf(circuit?.entries[0], probe?.entries[0], seenAt)
      known.learn(keys, found, revision)
      // Keeps the time at which this process first saw that state.
      const current = known.get(keys)
      return current?.revision === found.revision ? { ...found, seenAt: current.seenAt } : found
    })

  const seen = (keys: circuits.Keys): Effect.Effect<circuits.Known, KvError.KvError> =>
    Effect.suspend(() => {
      const current = known.get(keys)
      return current === undefined ? read(keys) : Effect.succeed(current)
    })

  const nextWriter = (): string => `${instance}/${++writes}`

  /** How long the key of a circuit stays without further writes. */
  const lifetime = ({ openUntil, state }: circuit.Circuit, now: number): number =>
    idleMillis + (state === "Open" ? Math.max(0, openUntil - now) : 0)

  /** Writes with a lease that lives for so many milliseconds. */
  const leased = <A>(
    millis: number,
    write: (lease: bigint) => Effect.Effect<A, KvError.KvError>
  ): Effect.Effect<A, KvError.KvError> => leases.write(Effect.flatMap(leases.lease(millis), write))

  /**
   * Admits a call as the probe; `undefined` if the circuit has changed. The session ends with the call's scope, and with it
   * the probe, also if it was admitted after the call has stopped to wait. It ends with the layer, too, which may close
   * while the call runs.
   */
  const probe = Effect.fnUntraced(function*(
    keys: circuits.Keys,
    before: circuits.Known
  ): Effect.fn.Return<CircuitBreaker.Admission | undefined, KvError.KvError, Scope.Scope> {
    if (isClosed) return yield* closed
    const sessionScope = yield* Scope.fork(scope)
    const calls = new LastFailure.LastFailure()
    const attempt = yield* inBackground(
      LastFailure.recorded(Scope.provide(admitProbe(keys, before), sessionScope), calls)
    )
    // In the background: the call does not wait for the end of its lease.
    yield* Effect.addFinalizer((exit) =>
      inBackground(Effect.andThen(Fiber.interrupt(attempt), Scope.close(sessionScope, exit)))
    )
    const admitted = yield* Effect.interruptible(Effect.timeoutOption(Fiber.join(attempt), deadline))
    return Option.isSome(admitted) ? admitted.value : yield* noResponse(calls.lastFailure)
  })

  const admitProbe = Effect.fnUntraced(function*(
    keys: circuits.Keys,
    { circuit: before, revision }: circuits.Known
  ): Effect.fn.Return<CircuitBreaker.Admission | undefined, KvError.KvError, Scope.Scope> {
    const { lease } = yield* Effect.provideService(Session.make({ ttl: probeLease }), Kv.Kv, kv)
    const writer = nextWriter()
    const after = { ...circuit.probing(before, Number(revision)), writer }
    const response = yield* leased(idleMillis, (idle) =>
      Effect.retry(
        kv.txn({
          if: [Compare.modRevision(keys.circuit, "=", revision), Compare.missing(keys.probe)],
          then: [
            Op.put(keys.circuit, circuits.encode(after), { lease: idle }),
            Op.put(keys.probe, writer, { lease })
          ],
          else: [Op.get(keys.circuit), Op.get(keys.probe)]
        }),
        isUnknown
      ))
    if (response.succeeded) {
      const seenAt = yield* circuits.monotonicMillis
      const admitted = { circuit: after, revision: response.revision, seenAt, isProbing: true }
      known.learn(keys, admitted, response.revision)
    } else {
      // An attempt whose response was lost may have admitted this call.
      const found = yield* learned(keys, response.revision, response.responses)
      if (found.circuit.writer !== writer || !found.isProbing) return undefined
    }
    return {
      generation: after.generation,
      probe: true,
      consecutiveOpenings: after.openings,
      transition: before.state === "Open" ? { key: keys.key, from: "Open", to: "HalfOpen" } : undefined
    }
  })

  /** Applies outcomes in order, in one write. */
  const applyAll = Effect.fnUntraced(function*(
    key: string,
    outcomes: ReadonlyArray<Pending>
  ): Effect.fn.Return<ReadonlyArray<CircuitBreaker.Transition | undefined>, KvError.KvError> {
    const keys = circuits.keysOf(prefix, key)
    let current = yield* seen(keys)
    for (let conflicts = 0; conflicts < maxConflicts; conflicts++) {
      const { circuit: before, revision } = current
      let after = before
      const transitions = outcomes.map((outcome) => {
        const step = circuit.step(key, after, Number(revision), outcome, outcome.at)
        after = step.circuit
        return step.transition
      })
      const endsProbe = before.state === "HalfOpen" &&
        outcomes.some(({ generation }) => generation === before.generation)
      if (after === before && !endsProbe) return transitions
      const writer = nextWriter()
      const written = { ...after, writer }
      const now = outcomes.at(-1)!.at
      const isInitial = circuits.isInitial(after)
      let isUncertain = false
      const write = (lease: bigint | undefined) => {
        const changes: Array<Op.Op> = []
        if (after !== before) {
          changes.push(
            isInitial ? Op.delete(keys.circuit) : Op.put(keys.circuit, circuits.encode(written), { lease })
          )
        }
        if (endsProbe) changes.push(Op.delete(keys.probe))
        return kv.txn({
          if: [Compare.modRevision(keys.circuit, "=", revision)],
          then: changes,
          else: [Op.get(keys.circuit), Op.get(keys.probe)]
        }).pipe(
          Effect.tapError((error) =>
            Effect.sync(() => {
              isUncertain ||= error.outcome === "Unknown"
            })
          ),
          Effect.retry(isUnknown)
        )
      }
      const response = yield* after === before || isInitial
        ? write(undefined)
        : leased(lifetime(after, now), write)
      if (response.succeeded) {
        const seenAt = yield* circuits.monotonicMillis
        known.learn(keys, {
          circuit: isInitial ? circuit.initial : after === before ? before : written,
          revision: after === before ? revision : isInitial ? 0n : response.revision,
          seenAt,
          isProbing: current.isProbing && !endsProbe
        }, response.revision)
        return transitions
      }
      current = yield* learned(keys, response.revision, response.responses)
      // Applied, but the response was lost. If others have written since, it is not counted a second time.
      if (current.circuit.writer === writer) return transitions
      if (isUncertain) return outcomes.map(() => undefined)
    }
    return yield* circuits.tooManyConflicts(key)
  })

  const flush = (key: string): Effect.Effect<void> =>
    Effect.suspend(() => {
      const outcomes = pending.get(key) ?? []
      if (outcomes.length === 0) {
        pending.delete(key)
        return Effect.void
      }
      pending.set(key, [])
      return Effect.andThen(
        Effect.onExit(
          LastFailure.timeoutOrElse(applyAll(key, outcomes), { duration: deadline, orElse: noResponse }),
          (exit) =>
            Effect.sync(() => {
              const isInterrupted = Exit.hasInterrupts(exit)
              for (const [i, { result }] of outcomes.entries()) {
                Deferred.doneUnsafe(
                  result,
                  isInterrupted ? Exit.fail(closed) : Exit.map(exit, (transitions) => transitions[i])
                )
              }
              if (isInterrupted) endPending(key)
            })
        ).pipe(Effect.exit),
        flush(key)
      )
    })

  return CircuitBreaker.CircuitBreakerStore.of({
    admit: (key) => {
      const keys = circuits.keysOf(prefix, key)
      return bookkeeping(Effect.gen(function*() {
        let current = yield* seen(keys)
        for (let conflicts = 0; conflicts < maxConflicts; conflicts++) {
          const now = yield* Clock.currentTimeMillis
          const { circuit: state, isProbing } = current
          if (state.state === "Closed") {
            return {
              generation: state.generation,
              probe: false,
              consecutiveOpenings: circuit.openingsAt(state, now),
              transition: undefined
            } satisfies CircuitBreaker.Admission
          }
          const remaining = state.state === "Open" ? yield* remainingOf(current, now) : 0
          if (remaining > 0) {
            return yield* new CircuitBreaker.CircuitBreakerError({
              reason: new CircuitBreaker.CircuitOpen({ key, retryAfter: Duration.millis(remaining) })
            })
          }
          if (isProbing) {
            return yield* new CircuitBreaker.CircuitBreakerError({
              reason: new CircuitBreaker.CircuitHalfOpen({ key })
            })
          }
          const admission = yield* probe(keys, current)
          if (admission !== undefined) return admission
          current = yield* read(keys)
        }
        return yield* circuits.tooManyConflicts(key)
      })).pipe(Effect.catchTag("KvError", storeError(`The call was not admitted to the circuit ${key}`)))
    },

    record: ({ key, ...outcome }) =>
      Effect.gen(function*() {
        const at = yield* Clock.currentTimeMillis
        const keys = circuits.keysOf(prefix, key)
        const current = known.get(keys)
        // Nothing to write: most calls of a healthy circuit end here.
        if (current !== undefined && !pending.has(key) && isIrrelevant(key, current, outcome, at)) return undefined
        if (isClosed) return yield* closed
        const result = Deferred.makeUnsafe<CircuitBreaker.Transition | undefined, KvError.KvError>()
        const waiting = pending.get(key)
        if (waiting === undefined) {
          pending.set(key, [{ ...outcome, at, result }])
          yield* inBackground(flush(key))
        } else waiting.push({ ...outcome, at, result })
        return yield* Deferred.await(result)
      }).pipe(Effect.catchTag("KvError", storeError(`The outcome was not recorded in the circuit ${key}`))),

    state: (key) =>
      bookkeeping(Effect.gen(function*(): Effect.fn.Return<CircuitBreaker.State, KvError.KvError> {
        const found = yield* read(circuits.keysOf(prefix, key))
        const { circuit: state, isProbing } = found
        switch (state.state) {
          case "Closed":
            return { _tag: "Closed", key }
          case "Open":
            return {
              _tag: "Open",
              key,
              retryAfter: Duration.millis(yield* remainingOf(found, yield* Clock.currentTimeMillis)),
              consecutiveOpenings: state.openings
            }
          case "HalfOpen":
            return { _tag: "HalfOpen", key, probing: isProbing, consecutiveOpenings: state.openings }
        }
      })).pipe(Effect.catchTag("KvError", storeError(`The state of the circuit ${key} was not read`)))
  })
})

const remainingOf = ({ circuit: state, seenAt }: circuits.Known, wallMillis: number): Effect.Effect<number> =>
  Effect.map(circuits.monotonicMillis, (now) => circuit.remaining(state, { wallMillis, sinceSeenMillis: now - seenAt }))

const closed = KvError.make(new KvError.Closed({ message: "the layer of the circuit breaker's store was closed" }))

const noResponse = (why: KvError.Reason | undefined): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(
    new KvError.Unavailable({
      message: `the store has not responded within ${Duration.format(deadline)}${
        why === undefined ? "" : `: ${why.message}`
      }`
    })
  )

/** The state of circuits is written whatever lock the call runs under, and the call must not wait for long. */
const bookkeeping = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Deadline.within(Fence.unfenced(effect), deadline)

const isUnknown = { while: ({ reason }: KvError.KvError) => reason._tag === "Indeterminate", times: 3 }

/** Whether the outcome changes nothing, as far as this process knows. */
const isIrrelevant = (
  key: string,
  { circuit: state, revision }: circuits.Known,
  outcome: circuit.Outcome,
  at: number
) =>
  outcome.generation !== state.generation ||
  state.state === "Closed" && circuit.step(key, state, Number(revision), outcome, at).circuit === state

const storeError = (message: string) => (error: KvError.KvError) =>
  Effect.fail(
    new CircuitBreaker.CircuitBreakerError({
      reason: new CircuitBreaker.CircuitBreakerStoreError({ message: `${message}: ${error.message}`, cause: error })
    })
  )
