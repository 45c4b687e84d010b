/**
 * The health check of a leader, which is repeated as long as it leads.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { UnhealthyLeader } from "../../values/ElectionError.ts"
import type { MultiLock } from "../queue/model.ts"
import type { Health } from "./model.ts"

/** The interval between two checks, unless it is set. */
const defaultInterval = Duration.seconds(5)

/** Repeats the check until it fails or does not end in time. Then fails. */
export const untilUnhealthy = (
  { parts: [{ name, token }] }: MultiLock,
  { check, interval = defaultInterval, timeout = interval }: Health
): Effect.Effect<never, UnhealthyLeader> => {
  const unhealthy = (fields: { readonly how: "Failed" | "TimedOut"; readonly cause?: unknown }) =>
    Effect.failSync(() =>
      new UnhealthyLeader({
        election: name,
        token,
        timeoutMillis: Duration.toMillis(Duration.fromInputUnsafe(timeout)),
        ...fields
      })
    )
  const once = Effect.flatMap(attempt(check, timeout), (exit) => {
    if (Option.isNone(exit)) return unhealthy({ how: "TimedOut" })
    return Exit.isSuccess(exit.value)
      ? Effect.void
      : unhealthy({ how: "Failed", cause: Cause.squash(exit.value.cause) })
  })
  return Effect.forever(Effect.andThen(once, Effect.sleep(interval)))
}

/** One check in its own fiber. After the timeout the fiber is interrupted, but not awaited: it may hang. */
const attempt = (
  check: Effect.Effect<unknown, unknown>,
  timeout: Duration.Input
): Effect.Effect<Option.Option<Exit.Exit<unknown, unknown>>> =>
  Effect.contextWith((context) =>
    Effect.callback<Exit.Exit<unknown, unknown>>((resume) => {
      const fiber = Effect.runForkWith(context)(check)
      fiber.addObserver((exit) => resume(Effect.succeed(exit)))
      return Effect.sync(() => fiber.interruptUnsafe())
    }).pipe(Effect.timeoutOption(timeout))
  )
