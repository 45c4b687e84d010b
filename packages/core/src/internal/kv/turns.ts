/**
 * Turns: of the effects that a client runs for one key, one at a time, in the order they came.
 *
 * Each runs in its caller's own fiber. Whether it has the turn is its place in the line and nothing else: the first in line
 * has it, and leaves the line however it ends. So an interruption at any moment loses no turn.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Deadline from "../../values/Deadline.ts"
import * as KvError from "../../values/KvError.ts"

/** The line for one key. `note` is left by the effect that ran last, for the next one. */
interface Line<Note> {
  readonly tickets: Set<Ticket>
  /** How many effects of the line have succeeded. */
  successes: number
  note: Note | undefined
}

interface Ticket {
  readonly fiber: Fiber.Fiber<unknown, unknown>
  resume: ((turn: Effect.Effect<void, KvError.KvError>) => void) | undefined
}

/** What an effect gets with its turn. */
export interface Turn<Note> {
  /** What the effect before left, if that was immediately before. Reading takes it. */
  readonly take: () => Note | undefined
  /** Leaves a note for the next in line. */
  readonly leave: (note: Note) => void
}

/**
 * The lines in which a fiber has the turn. One that asks for the same turn again, from within a function of backends for
 * instance, would wait for itself.
 */
const Held: Context.Reference<ReadonlyArray<unknown>> = Context.Reference(
  "@effect-kv/core/internal/turns/Held",
  { defaultValue: (): ReadonlyArray<unknown> => [] }
)

export class Turns<Note> {
  readonly #lines = new Map<string, Line<Note>>()

  /** How many keys have a line. */
  get size(): number {
    return this.#lines.size
  }

  /**
   * Runs the effect when everything that came before for the key has ended. Fails with `DeadlineExceeded` if none of that has
   * succeeded for as long as the fiber's deadline: a long queue is no reason to fail, a store that is away is one.
   */
  run<A, E>(
    key: string,
    f: (turn: Turn<Note>) => Effect.Effect<A, E>
  ): Effect.Effect<A, E | KvError.KvError> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.withFiber((fiber) => {
        const line = this.#lines.get(key) ?? { tickets: new Set(), successes: 0, note: undefined }
        const held = fiber.getRef(Held)
        if (held.includes(line)) return restore(f(noTurn()))
        this.#lines.set(key, line)
        const ticket: Ticket = { fiber, resume: undefined }
        line.tickets.add(ticket)
        const body = Effect.provideService(Effect.suspend(() => f(turnIn(line))), Held, [...held, line])
        return Effect.onExit(
          restore(isFirst(line, ticket) ? body : Effect.andThen(wait(line, ticket), body)),
          (exit) =>
            Effect.sync(() => {
              if (exit._tag === "Success") line.successes++
              this.#leave(key, line, ticket)
            })
        )
      })
    )
  }

  #leave(key: string, line: Line<Note>, ticket: Ticket): void {
    const hadTurn = isFirst(line, ticket)
    line.tickets.delete(ticket)
    if (line.tickets.size === 0) {
      this.#lines.delete(key)
      return
    }
    if (!hadTurn) return
    // By a task: where all answers come at once, as in memory, a line of thousands would be as many frames of stack.
    const [next] = line.tickets
    next?.fiber.currentDispatcher.scheduleTask(() => next.resume?.(Effect.void), 0)
  }
}

const isFirst = (line: Line<unknown>, ticket: Ticket): boolean => {
  const [first] = line.tickets
  return first === ticket
}

/** Waits for the turn, by the clock and the deadline of the fiber; interruptible, and in time where it is not. */
const wait = (line: Line<unknown>, ticket: Ticket): Effect.Effect<void, KvError.KvError> =>
  Effect.withFiber((fiber) => {
    const deadline = fiber.getRef(Deadline.Deadline) ?? Deadline.defaultDeadline
    let alarm: Fiber.Fiber<void> | undefined
    const untilNoProgress: Effect.Effect<void> = Effect.suspend(() => {
      const before = line.successes
      return Effect.flatMap(
        Effect.sleep(deadline),
        () => line.successes === before ? Effect.void : untilNoProgress
      )
    })
    const waiting = Effect.callback<void, KvError.KvError>((resume) => {
      if (isFirst(line, ticket)) return resume(Effect.void)
      ticket.resume = resume
      alarm = Effect.runForkWith(fiber.context)(
        Effect.andThen(untilNoProgress, Effect.sync(() => resume(KvError.fail(tooLate(deadline)))))
      )
    })
    return Effect.onExit(waiting, () => Effect.sync(() => alarm?.interruptUnsafe()))
  })

const tooLate = (deadline: Duration.Duration): KvError.Reason =>
  new KvError.DeadlineExceeded({
    message: `not begun: of this client's earlier calls for the key none has succeeded for ${Duration.format(deadline)}`
  })

const turnIn = <Note>(line: Line<Note>): Turn<Note> => ({
  take: () => {
    const { note } = line
    line.note = undefined
    return note
  },
  leave: (note) => {
    line.note = note
  }
})

const noTurn = <Note>(): Turn<Note> => ({ take: () => undefined, leave: () => {} })
