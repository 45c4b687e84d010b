/**
 * A shared timer: calls functions after a fixed delay. Nearly all calls are cancelled before they are due, so one fiber
 * sleeps for all of them.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"

/** Calls the function after the delay. Returns what cancels the call. */
export type SharedTimer = (f: () => void) => () => void

interface Task {
  /** By the monotonic clock, in nanoseconds: whole numbers, so that a sleep is never for the rest of a rounding. */
  readonly due: bigint
  f: (() => void) | undefined
}

/** Calls nothing any more once its scope is closed. */
export const make = Effect.fnUntraced(function*(
  delay: Duration.Duration
): Effect.fn.Return<SharedTimer, never, Scope.Scope> {
  const context = yield* Effect.context<never>()
  const clock = yield* Clock.Clock
  const scope = yield* Effect.scope
  const nanos = Duration.toNanosUnsafe(delay)
  let tasks: Array<Task> = []
  let sleeper: Fiber.Fiber<void> | undefined
  yield* Scope.addFinalizer(scope, Effect.sync(() => sleeper?.interruptUnsafe()))

  const sleep = Effect.gen(function*() {
    for (let next = tasks[0]; next !== undefined; next = tasks.find((task) => task.f !== undefined)) {
      yield* Effect.sleep(Math.ceil(Number(next.due - clock.monotonicTimeNanosUnsafe()) / 1_000_000))
      const time = clock.monotonicTimeNanosUnsafe()
      const due = tasks.filter((task) => task.due <= time)
      tasks = tasks.slice(due.length)
      for (const { f } of due) f?.()
    }
    sleeper = undefined
  })

  return (f) => {
    const task: Task = { due: clock.monotonicTimeNanosUnsafe() + nanos, f }
    tasks.push(task)
    if (scope.state._tag !== "Closed") sleeper ??= Effect.runForkWith(context)(sleep)
    return () => {
      task.f = undefined
    }
  }
})
