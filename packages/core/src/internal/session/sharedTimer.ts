/**
 * A shared timer: calls functions after a fixed delay. Nearly all calls are cancelled before they are due, so one fiber
 * sleeps for all of them.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"

/** Calls the function after the delay. Returns the function that cancels the call. */
export type SharedTimer = (f: () => void) => () => void

interface Task {
  /** By the monotonic clock, in nanoseconds. An integer, so that no rounding remainder is left to sleep for. */
  readonly due: bigint
  f: (() => void) | undefined
}

/** Makes a timer. Once the scope is closed it makes no more calls. */
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
    // The sleeper ends when no task is left. What is here then was cancelled, and must not wake the next sleeper.
    if (sleeper === undefined) tasks = []
    tasks.push(task)
    if (scope.state._tag !== "Closed") sleeper ??= Effect.runForkWith(context)(sleep)
    return () => {
      task.f = undefined
    }
  }
})
