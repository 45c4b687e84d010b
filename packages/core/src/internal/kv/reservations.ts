/**
 * Reservations of keys: while an optimistic write has its keys reserved, other writes of the same client to them wait.
 *
 * An optimistic write is rejected if another write reaches the store between its read and itself. A client that always
 * has writes of the key in flight or queued would reject its own optimistic writes every time.
 *
 * A write waits for at most one reservation, and for at most a second. So it is neither starved in turn, nor blocked
 * indefinitely by a function that waits for it.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { KvBackend } from "../../backend/KvBackend.ts"
import * as Deadline from "../../values/Deadline.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import { monotonicMillis } from "../values/monotonic.ts"

/** The longest time that a write waits for a reservation, or a reservation for earlier writes, in milliseconds. */
const longestWait = 1000

/** A write of the client, from its arrival at the backend to its response. */
interface Write {
  readonly op: Op.Op
}

interface Reservation {
  /** The reserved keys, at the client's root. */
  readonly ranges: ReadonlyArray<KeyRange.KeyRange>
  /** The writes of these keys that were in flight when they were reserved, and still are. */
  readonly earlier: Set<Write>
  /** Resumes the owner when none of them is in flight any more. */
  whenAlone: () => void
  /** Resumes each waiting write, in the order in which they arrived. */
  readonly waiting: Set<() => void>
  hasEnded: boolean
}

interface ClientState {
  /** How many optimistic writes had a conflict and have not ended yet. Otherwise writes are not recorded. */
  contending: number
  readonly inFlight: Set<Write>
  readonly reservations: Set<Reservation>
}

/** The reservations that the fiber writes under. Its writes do not wait for them. */
const Owned: Context.Reference<ReadonlyArray<Reservation>> = Context.Reference(
  "@effect-kv/core/internal/reservations/Owned",
  { defaultValue: (): ReadonlyArray<Reservation> => [] }
)

const states = new WeakMap<object, ClientState>()

const stateOf = (client: object): ClientState => {
  const state = states.get(client) ?? { contending: 0, inFlight: new Set(), reservations: new Set() }
  states.set(client, state)
  return state
}

/** Runs the further attempts of an optimistic write that had a conflict. Only they can reserve keys. */
export const contending = <A, E, R>(client: object, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) => {
    const state = stateOf(client)
    state.contending++
    return Effect.onExit(restore(effect), () =>
      Effect.sync(() => {
        state.contending--
      }))
  })

/**
 * Runs the effect while the keys are reserved, and none of the client's earlier writes of them is in flight. If one of
 * the keys already is reserved, runs it without a reservation, so that no two owners wait for each other.
 */
export const reserving = <A, E, R>(
  client: object,
  ranges: ReadonlyArray<KeyRange.KeyRange>,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.withFiber((fiber) => {
      const { inFlight, reservations } = stateOf(client)
      for (const other of reservations) if (overlapAny(other.ranges, ranges)) return restore(effect)
      const reservation: Reservation = {
        ranges,
        earlier: new Set([...inFlight].filter(({ op }) => writesTo(op, ranges))),
        whenAlone: () => {},
        waiting: new Set(),
        hasEnded: false
      }
      reservations.add(reservation)
      const owned = Effect.provideService(effect, Owned, [...fiber.getRef(Owned), reservation])
      return Effect.onExit(restore(Effect.andThen(untilAlone(reservation), owned)), () =>
        Effect.sync(() => {
          reservation.hasEnded = true
          reservations.delete(reservation)
          if (reservation.waiting.size === 0) return
          // In a task of its own: with a store that responds synchronously, the writes would run inside this fiber.
          fiber.currentDispatcher.scheduleTask(() => {
            for (const resume of reservation.waiting) resume()
          }, 0)
        }))
    })
  )

/**
 * Makes the writes of a client wait while their keys are reserved. For the client's lowest backend, which sees the keys'
 * full names. The backend above must call `execute` when the write begins, not earlier.
 */
export const gated = (backend: KvBackend, client: object): KvBackend => {
  const state = stateOf(client)

  const reservationOf = (op: Op.Op, owned: ReadonlyArray<Reservation>): Reservation | undefined => {
    for (const reservation of state.reservations) {
      if (!owned.includes(reservation) && writesTo(op, reservation.ranges)) return reservation
    }
    return undefined
  }

  const recorded = (op: Op.Op): Effect.Effect<Op.Response, KvError.KvError> =>
    Effect.uninterruptibleMask((restore) => {
      const write: Write = { op }
      state.inFlight.add(write)
      return Effect.onExit(restore(backend.execute(op)), () =>
        Effect.sync(() => {
          state.inFlight.delete(write)
          for (const { earlier, whenAlone } of state.reservations) {
            if (earlier.delete(write) && earlier.size === 0) whenAlone()
          }
        }))
    })

  return {
    ...backend,
    execute: (op) =>
      state.contending > 0 && Op.isWrite(op)
        ? Effect.withFiber((fiber) => {
          const reservation = reservationOf(op, fiber.getRef(Owned))
          return reservation === undefined ? recorded(op) : afterwards(reservation, recorded(op))
        })
        : backend.execute(op)
  }
}

/** Executes the write after the reservation, with what is left of its deadline. */
const afterwards = (
  reservation: Reservation,
  write: Effect.Effect<Op.Response, KvError.KvError>
): Effect.Effect<Op.Response, KvError.KvError> =>
  Effect.withFiber((fiber) => {
    const deadline = fiber.getRef(Deadline.Deadline)
    const clock = fiber.getRef(Clock.Clock)
    const since = monotonicMillis(clock)
    return Effect.flatMap(untilEnd(reservation, deadline), () => {
      if (deadline === undefined) return write
      const left = Math.max(1, Duration.toMillis(deadline) - (monotonicMillis(clock) - since))
      return Effect.provideService(write, Deadline.Deadline, Duration.millis(left))
    })
  })

/** Waits for the end of the reservation, at most for the deadline. */
const untilEnd = (
  reservation: Reservation,
  deadline: Duration.Duration | undefined
): Effect.Effect<void, KvError.KvError> => {
  const isShort = deadline !== undefined && Duration.toMillis(deadline) < longestWait
  return wait((proceed) => {
    if (reservation.hasEnded) return proceed()
    reservation.waiting.add(proceed)
    return () => reservation.waiting.delete(proceed)
  }, isShort ? { limit: deadline, result: KvError.fail(tooLate(deadline)) } : undefined)
}

/** Waits until none of the writes that preceded the reservation is in flight. */
const untilAlone = (reservation: Reservation): Effect.Effect<void> =>
  Effect.suspend(() =>
    reservation.earlier.size === 0 ? Effect.void : wait((proceed) => {
      if (reservation.earlier.size === 0) return proceed()
      reservation.whenAlone = proceed
    })
  )

/**
 * Waits for a call of `proceed`, but not longer than the limit, even if the fiber is uninterruptible. `register` returns
 * its finalizer.
 */
const wait = <E = never>(
  register: (proceed: () => void) => (() => void) | void,
  { limit, result }: { readonly limit: Duration.Duration; readonly result: Effect.Effect<void, E> } = {
    limit: Duration.millis(longestWait),
    result: Effect.void
  }
): Effect.Effect<void, E> =>
  Effect.withFiber((fiber) => {
    let finalize: (() => void) | void
    let alarm: Fiber.Fiber<void> | undefined
    const waiting = Effect.callback<void, E>((resume) => {
      finalize = register(() => resume(Effect.void))
      alarm = Effect.runForkWith(fiber.context)(
        Effect.andThen(Effect.sleep(limit), Effect.sync(() => resume(result)))
      )
    })
    return Effect.onExit(waiting, () =>
      Effect.sync(() => {
        finalize?.()
        alarm?.interruptUnsafe()
      }))
  })

const tooLate = (deadline: Duration.Duration): KvError.Reason =>
  new KvError.DeadlineExceeded({
    message: `not sent within ${Duration.format(deadline)}: ` +
      "this client was modifying the key, and the store had not responded"
  })

const writesTo = (op: Op.Op, ranges: ReadonlyArray<KeyRange.KeyRange>): boolean => {
  switch (op._tag) {
    case "Range":
      return false
    case "Put":
      return ranges.some((range) => KeyRange.contains(range, op.key))
    case "Delete":
      return overlapAny(ranges, [op.range])
    case "Txn":
      return op.then.some((inner) => writesTo(inner, ranges)) || op.else.some((inner) => writesTo(inner, ranges))
  }
}

const overlapAny = (some: ReadonlyArray<KeyRange.KeyRange>, others: ReadonlyArray<KeyRange.KeyRange>): boolean =>
  some.some((a) => others.some((b) => overlap(a, b)))

/** A range is an interval. So two of them overlap if the first key of one is in the other. */
const overlap = (a: KeyRange.KeyRange, b: KeyRange.KeyRange): boolean =>
  KeyRange.contains(a, startOf(b)) || KeyRange.contains(b, startOf(a))

const startOf = (range: KeyRange.KeyRange): string => {
  switch (range._tag) {
    case "Key":
      return range.key
    case "HalfOpen":
      return range.start
    case "Prefix":
      return range.from
  }
}
