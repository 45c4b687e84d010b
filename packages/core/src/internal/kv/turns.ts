/**
 * Turns: the effects that a client runs for one key run one at a time, in the order they arrived.
 *
 * Each runs in its caller's own fiber. The first in the queue has the turn, and leaves the queue however it ends.
 * Nothing else records the turn, so an interruption at any moment cannot lose it.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Deadline from "../../values/Deadline.ts"
import * as KvError from "../../values/KvError.ts"

/** The queue for one key. The effect that ran last can leave a `note` for the next one. */
interface TurnQueue<Note> {
  readonly tickets: Set<Ticket>
  /** How many effects of the queue have succeeded. */
  successes: number
  note: Note | undefined
}

interface Ticket {
  readonly fiber: Fiber.Fiber<unknown, unknown>
  resume: ((turn: Effect.Effect<void, KvError.KvError>) => void) | undefined
}

/** The turn of an effect. */
export interface Turn<Note> {
  /** Takes the note of the effect that ran immediately before, if it left one. */
  readonly take: () => Note | undefined
  /** Leaves a note for the next effect in the queue. */
  readonly leave: (note: Note) => void
}

/**
 * The queues in which a fiber has the turn. A fiber that requests the same turn again, for example from within a
 * wrapper of backends, would wait for itself.
 */
const Held: Context.Reference<ReadonlyArray<unknown>> = Context.Reference(
  "@effect-kv/core/internal/turns/Held",
  { defaultValue: (): ReadonlyArray<unknown> => [] }
)

export class Turns<Note> {
  readonly #queues = new Map<string, TurnQueue<Note>>()

  /** How many keys have a queue. */
  get size(): number {
    return this.#queues.size
  }

  /**
   * Runs the effect once all earlier effects for the key have ended. Fails with `DeadlineExceeded` if none of them has
   * succeeded for as long as the fiber's deadline. So an unreachable store fails it, but a long queue does not.
   */
  run<A, E, R>(
    key: string,
    f: (turn: Turn<Note>) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | KvError.KvError, R> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.withFiber((fiber) => {
        const queue = this.#queues.get(key) ?? { tickets: new Set(), successes: 0, note: undefined }
        const held = fiber.getRef(Held)
        if (held.includes(queue)) return restore(f(noTurn()))
        this.#queues.set(key, queue)
        const ticket: Ticket = { fiber, resume: undefined }
        queue.tickets.add(ticket)
        const body = Effect.provideService(Effect.suspend(() => f(turnOf(queue))), Held, [...held, queue])
        return Effect.onExit(
          restore(isFirst(queue, ticket) ? body : Effect.andThen(wait(queue, ticket), body)),
          (exit) =>
            Effect.sync(() => {
              if (exit._tag === "Success") queue.successes++
              this.#leave(key, queue, ticket)
            })
        )
      })
    )
  }

  #leave(key: string, queue: TurnQueue<Note>, ticket: Ticket): void {
    const hadTurn = isFirst(queue, ticket)
    queue.tickets.delete(ticket)
    if (queue.tickets.size === 0) {
      this.#queues.delete(key)
      return
    }
    if (!hadTurn) return
    // In a task of its own: with a store that responds synchronously, thousands of queued effects would overflow the
    // stack.
    const [next] = queue.tickets
    next?.fiber.currentDispatcher.scheduleTask(() => next.resume?.(Effect.void), 0)
  }
}

const isFirst = (queue: TurnQueue<unknown>, ticket: Ticket): boolean => {
  const [first] = queue.tickets
  return first === ticket
}

/** Waits for the turn, at most for the fiber's deadline, even if the fiber is uninterruptible. */
const wait = (queue: TurnQueue<unknown>, ticket: Ticket): Effect.Effect<void, KvError.KvError> =>
  Effect.withFiber((fiber) => {
    const deadline = fiber.getRef(Deadline.Deadline) ?? Deadline.defaultDeadline
    let alarm: Fiber.Fiber<void> | undefined
    const untilNoProgress: Effect.Effect<void> = Effect.suspend(() => {
      const before = queue.successes
      return Effect.flatMap(
        Effect.sleep(deadline),
        () => queue.successes === before ? Effect.void : untilNoProgress
      )
    })
    const waiting = Effect.callback<void, KvError.KvError>((resume) => {
      if (isFirst(queue, ticket)) return resume(Effect.void)
      ticket.resume = resume
      alarm = Effect.runForkWith(fiber.context)(
        Effect.andThen(untilNoProgress, Effect.sync(() => resume(KvError.fail(tooLate(deadline)))))
      )
    })
    return Effect.onExit(waiting, () => Effect.sync(() => alarm?.interruptUnsafe()))
  })

const tooLate = (deadline: Duration.Duration): KvError.Reason =>
  new KvError.DeadlineExceeded({
    message: `not started: none of this client's earlier calls for the key has succeeded for ${
      Duration.format(deadline)
    }`
  })

const turnOf = <Note>(queue: TurnQueue<Note>): Turn<Note> => ({
  take: () => {
    const { note } = queue
    queue.note = undefined
    return note
  },
  leave: (note) => {
    queue.note = note
  }
})

const noTurn = <Note>(): Turn<Note> => ({ take: () => undefined, leave: () => {} })
