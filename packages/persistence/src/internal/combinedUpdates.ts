/**
 * Updates of states in the store, combined: the callers of one process that update the same key share one write.
 *
 * An update is a function of the state, and each key has one batch in flight. Meanwhile callers queue. The next batch
 * applies all their functions in the order of arrival, and writes the result if no other client wrote in between. Otherwise
 * it applies them to the newer state. So each caller costs a share of a request, and no queue is longer than one batch.
 *
 * If the response of a write is lost, the next state that is read says whether it was applied, unless another client has
 * written since. Then the batch is applied again: its updates may count twice, and never too little.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as Deadline from "@effect-kv/core/Deadline"
import type { Entry } from "@effect-kv/core/Entry"
import * as Fence from "@effect-kv/core/Fence"
import type { Kv } from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as LastFailure from "@effect-kv/core/LastFailure"
import * as Lease from "@effect-kv/core/Lease"
import * as Op from "@effect-kv/core/Op"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as batchSpan from "./batchSpan.ts"
import type { LeasePool } from "./leasePool.ts"
import { Turns } from "./turns.ts"

/** What an update makes of a state. */
export interface Step<S, A> {
  readonly result: A
  /** The next state; `none` leaves the state as it is. */
  readonly next: Option.Option<S>
  /**
   * Whether the result holds for every later state too, as a rejection does; then there is no next state. A state that was
   * known a moment ago is good enough for it, so the update needs no request.
   */
  readonly isFinal: boolean
}

export interface Options<S> {
  readonly kv: Kv
  readonly leases: LeasePool
  readonly schema: Schema.Codec<S, unknown>
  /** How long a state must be kept, in milliseconds from now. */
  readonly ttlMillis: (state: S) => number
}

export type Failure = KvError.KvError | Schema.SchemaError

export interface CombinedUpdates<S> {
  /**
   * Updates the state of a key. The function may be called several times.
   *
   * A caller that is interrupted, or whose `Deadline` passes, takes no part in a batch that has not begun.
   */
  readonly update: <A>(key: string, f: (state: Option.Option<S>) => Step<S, A>) => Effect.Effect<A, Failure>
}

/** A state as it is in the store. */
interface Known<S> {
  readonly state: Option.Option<S>
  /** `0n` if the key does not exist. */
  readonly modRevision: bigint
  /** The attempt that wrote it. */
  readonly writer: string
  /** When it was read or written, by the monotonic clock. */
  readonly since: number
}

/** A caller's update. */
interface Member<S> {
  /** Applies the update. `complete` ends the caller with the result. */
  readonly apply: (state: Option.Option<S>) => Step<S, unknown> & { readonly complete: () => void }
  readonly fail: (error: Failure) => void
  readonly caller: batchSpan.Caller | undefined
  isSent: boolean
}

/** The updates of a batch, applied to a state. */
interface Attempt<S> {
  /** The state to write; `none` if the updates change nothing. */
  readonly next: Option.Option<S>
  readonly complete: () => void
}

interface Slot<S> {
  pending: Array<Member<S>>
  isRunning: boolean
  /** The calls of the batch in flight, for callers that give up before it ends. */
  calls: LastFailure.LastFailure | undefined
  known: Known<S> | undefined
  readonly turns: Turns
}

/** For how long a known state is good enough for final results. */
const trustMillis = 1000

/** How many idle keys are remembered. */
const maxSlots = 1024

const millisOf = (nanos: bigint): number => Number(nanos) / 1_000_000

const monotonicMillis = Effect.map(Clock.monotonicTimeNanos, millisOf)

const closed = KvError.make(new KvError.Closed({ message: "the layer of the rate limiter was closed" }))

/** Updates of the keys of a `Kv`, until the scope closes. Work for several callers runs in the context of the scope. */
export const make = Effect.fnUntraced(function*<S>(
  options: Options<S>
): Effect.fn.Return<CombinedUpdates<S>, never, Scope.Scope> {
  const { kv, leases, ttlMillis } = options
  const codec = Schema.fromJsonString(Schema.Struct({ writer: Schema.String, state: options.schema }))
  const decode = Schema.decodeEffect(codec)
  const encode = Schema.encodeEffect(codec)
  const client = (yield* Lease.randomId).toString(36)
  const slots = new Map<string, Slot<S>>()
  let attempts = 0
  let isClosed = false
  const run = yield* FiberSet.makeRuntime<never, void, never>()
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      isClosed = true
    })
  )

  const knownOf = Effect.fnUntraced(function*(entry: Entry | undefined): Effect.fn.Return<Known<S>, Failure> {
    const since = yield* monotonicMillis
    if (entry === undefined) return { state: Option.none(), modRevision: 0n, writer: "", since }
    const { state, writer } = yield* decode(yield* entry.text)
    return { state: Option.some(state), modRevision: entry.modRevision, writer, since }
  })

  const read = (key: string): Effect.Effect<Known<S>, Failure> =>
    Effect.flatMap(kv.getEntry(key), (entry) => knownOf(Option.getOrUndefined(entry)))

  /** Writes a state if the key has not changed. Returns what is known of the key then, and whether it wrote. */
  const write = Effect.fnUntraced(function*(
    key: string,
    known: Known<S>,
    state: S,
    writer: string
  ): Effect.fn.Return<readonly [isWritten: boolean, known: Known<S>], Failure> {
    const text = yield* encode({ writer, state })
    const response = yield* leases.write(
      Effect.flatMap(leases.lease(ttlMillis(state)), (lease) =>
        kv.txn({
          if: [Compare.modRevision(key, "=", known.modRevision)],
          then: [Op.put(key, text, { lease })],
          else: [Op.get(key)]
        }))
    )
    return response.succeeded
      ? [true, { state: Option.some(state), modRevision: response.revision, writer, since: yield* monotonicMillis }]
      : [false, yield* knownOf(response.responses[0].entries[0])]
  })

  const batch = Effect.fnUntraced(function*(
    key: string,
    slot: Slot<S>,
    members: ReadonlyArray<Member<S>>
  ): Effect.fn.Return<void, Failure> {
    const endsAt = (yield* monotonicMillis) + Duration.toMillis(Deadline.defaultDeadline)
    /** Attempts whose response was lost, by their writer. */
    const lost = new Map<string, Attempt<S>>()
    let lostWith: KvError.KvError | undefined
    let conflicts = 0
    let isFresh = false
    while (true) {
      if (slot.known === undefined) {
        slot.known = yield* Effect.mapError(read(key), (error) => lostWith ?? error)
        isFresh = true
        noteOther(slot, slot.known)
      }
      const before = slot.known
      const applied = lost.get(before.writer)
      if (applied !== undefined) return applied.complete()
      const attempt = applyAll(members, before.state)
      if (Option.isNone(attempt.next)) {
        if (isFresh) return attempt.complete()
        slot.known = undefined
        continue
      }
      const sentAt = yield* monotonicMillis
      // A read costs less than a write that has a conflict.
      if (!isFresh && slot.turns.isContended(sentAt)) {
        slot.known = undefined
        continue
      }
      const writer = `${client}-${++attempts}`
      // Forgotten before the request is sent: however the batch ends, nothing is known of the key then.
      slot.known = undefined
      const exit = yield* Effect.exit(write(key, before, attempt.next.value, writer))
      slot.turns.wrote((yield* monotonicMillis) - sentAt)
      if (Exit.isSuccess(exit)) {
        const [isWritten, known] = exit.value
        slot.known = known
        if (isWritten) {
          attempt.complete()
          return yield* slot.turns.end(known.since)
        }
        isFresh = true
        noteOther(slot, known)
      } else {
        const error = Option.getOrUndefined(Exit.findErrorOption(exit))
        if (!KvError.isKvError(error)) return yield* Effect.failCause(exit.cause)
        if (error.outcome === "NotApplied") return yield* lostWith ?? error
        lost.set(writer, attempt)
        lostWith = error
      }
      conflicts++
      if ((yield* monotonicMillis) >= endsAt) return yield* lostWith ?? tooLate(conflicts)
      yield* slot.turns.afterConflict(conflicts)
    }
  })

  /** Remembers who has written a state, if it was another client. */
  const noteOther = (slot: Slot<S>, { since, writer }: Known<S>): void => {
    const other = writer.slice(0, writer.indexOf("-"))
    if (other !== "" && other !== client) slot.turns.saw(other, since)
  }

  const drain = (key: string, slot: Slot<S>): Effect.Effect<void> => {
    let hasEnded = false
    return Effect.gen(function*() {
      while (true) {
        const now = yield* monotonicMillis
        slot.pending = slot.pending.filter((member) => !isSettled(slot, member, now))
        if (slot.pending.length > 0) yield* slot.turns.next(now)
        // So that callers of the same turn of the event loop share the batch.
        yield* Effect.yieldNow
        const members = slot.pending
        if (members.length === 0) {
          // In one step with the check: a later caller starts the next fiber.
          slot.isRunning = false
          hasEnded = true
          return
        }
        slot.pending = []
        for (const member of members) member.isSent = true
        const calls = slot.calls = new LastFailure.LastFailure()
        const failed = (error: Failure): void => members.forEach(({ fail }) => fail(error))
        yield* batchSpan.around(batch(key, slot, members), members.map(({ caller }) => caller)).pipe(
          LastFailure.recorded(calls),
          Effect.catch((error) => Effect.sync(() => failed(error))),
          // Callers that have their result take no other.
          Effect.onExit(() =>
            Effect.sync(() => {
              slot.calls = undefined
              failed(closed)
            })
          )
        )
      }
    }).pipe(
      Effect.ensuring(Effect.sync(() => {
        if (hasEnded) return
        slot.isRunning = false
        for (const { fail } of slot.pending.splice(0)) fail(closed)
      })),
      Fence.unfenced,
      Effect.provideService(Deadline.Deadline, undefined)
    )
  }

  const slotOf = (key: string): Slot<S> => {
    const slot = slots.get(key) ??
      { pending: [], isRunning: false, calls: undefined, known: undefined, turns: new Turns() }
    slots.delete(key)
    slots.set(key, slot)
    if (slots.size > maxSlots) {
      for (const [oldest, { isRunning }] of slots) {
        if (isRunning || oldest === key) continue
        slots.delete(oldest)
        break
      }
    }
    return slot
  }

  const update: CombinedUpdates<S>["update"] = <A>(key: string, f: (state: Option.Option<S>) => Step<S, A>) =>
    Effect.withFiber((fiber) => {
      let member: Member<S> | undefined
      let slot: Slot<S> | undefined
      const result = Effect.callback<A, Failure>((resume) => {
        if (isClosed) return resume(Effect.fail(closed))
        const own = slot = slotOf(key)
        const joined: Member<S> = {
          apply: (state) => {
            const step = f(state)
            return { ...step, complete: () => resume(Effect.succeed(step.result)) }
          },
          fail: (error) => resume(Effect.fail(error)),
          caller: batchSpan.callerOf(fiber),
          isSent: false
        }
        member = joined
        if (isSettled(own, joined, millisOf(fiber.getRef(Clock.Clock).monotonicTimeNanosUnsafe()))) return
        own.pending.push(joined)
        if (!own.isRunning) {
          own.isRunning = true
          run(drain(key, own))
        }
        return Effect.sync(() => {
          own.pending = own.pending.filter((other) => other !== joined)
        })
      })
      const deadline = fiber.getRef(Deadline.Deadline)
      return deadline === undefined || !Duration.isFinite(deadline)
        ? result
        : Effect.timeoutOrElse(result, {
          duration: deadline,
          orElse: () => KvError.fail(deadlinePassed(deadline, member?.isSent === true, slot?.calls?.lastFailure))
        })
    })

  return { update }
})

/** Ends a caller whose result is final by what was known a moment ago. It needs no request, and no turn. */
const isSettled = <S>({ known }: Slot<S>, member: Member<S>, now: number): boolean => {
  if (known === undefined || now - known.since > trustMillis) return false
  const step = member.apply(known.state)
  if (step.isFinal) step.complete()
  return step.isFinal
}

const applyAll = <S>(members: ReadonlyArray<Member<S>>, before: Option.Option<S>): Attempt<S> => {
  let state = before
  let next = Option.none<S>()
  const steps = members.map((member) => {
    const step = member.apply(state)
    if (Option.isSome(step.next)) next = state = step.next
    return step
  })
  return { next, complete: () => steps.forEach(({ complete }) => complete()) }
}

const tooLate = (conflicts: number): KvError.KvError =>
  KvError.make(
    new KvError.DeadlineExceeded({
      message: `not applied: other clients wrote in between in each of ${conflicts} attempts within ${
        Duration.format(Deadline.defaultDeadline)
      }`
    })
  )

const deadlinePassed = (
  deadline: Duration.Duration,
  isSent: boolean,
  why: KvError.Reason | undefined
): KvError.Reason => {
  const details = why === undefined ? "" : ` (${why.message})`
  const message = `the update did not end within ${Duration.format(deadline)}${details}`
  return isSent
    ? new KvError.Indeterminate({ message: `${message}; it may still be applied` })
    : new KvError.DeadlineExceeded({ message: `not applied: ${message}` })
}
