/**
 * The first step of a client's close: those who hold its locks are told, and waited for.
 *
 * A program that is told to end closes its layers before the fibers that it forked have ended. If the client gave their
 * locks away at once, the next holder would begin while the finalizers of the last still run.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as KvError from "../../values/KvError.ts"

/** How a client's end is named, in errors and in losses. */
export const closedMessage = "the client was closed"

/** The failure of a call that came after the end of its client. */
export const closed: KvError.KvError = KvError.make(new KvError.Closed({ message: closedMessage }))

/** A holder of a lock, or a waiter for one. */
export interface Holder {
  /** Called once, when the client begins to close. */
  readonly onClosing: () => void
  /**
   * Whether it will give its locks back soon after it was told, or is about to. It is given what tells whether a scope is
   * being closed by somebody who does not wait for the client.
   */
  readonly isAwaited: (isClosing: (scope: Scope.Scope) => boolean) => boolean
}

export interface Holders {
  /** Adds a holder until it is told to forget it. */
  readonly add: (holder: Holder) => () => void
  /** Whether the client has begun to close: it gives nothing out any more. */
  readonly isClosing: () => boolean
}

/** How long the close waits for holders at most. */
export const limit: Duration.Duration = Duration.seconds(5)

/** When the scope closes, tells the holders and waits for them. */
export const make: Effect.Effect<Holders, never, Scope.Scope> = Effect.gen(function*() {
  const scope = yield* Effect.scope
  const clock = yield* Clock.Clock
  const holders = new Set<Holder>()
  let isClosing = false
  let onLeave = () => {}

  const untilAllHaveLeft = (awaited: ReadonlyArray<Holder>): Effect.Effect<void> =>
    Effect.callback((resume) => {
      onLeave = () => {
        if (!awaited.some((holder) => holders.has(holder))) resume(Effect.void)
      }
      onLeave()
    })

  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      isClosing = true
      const awaited = [...holders].filter((holder) => holder.isAwaited(isClosingApartFrom(scope)))
      for (const holder of holders) holder.onClosing()
      return awaited.length === 0
        ? Effect.void
        : Effect.asVoid(Effect.timeoutOption(untilAllHaveLeft(awaited), limit))
      // Whoever closes the client may be on another clock, such as that of a test, which may stand still.
    }).pipe(Effect.provideService(Clock.Clock, clock))
  )

  return {
    add: (holder) => {
      holders.add(holder)
      return () => {
        if (holders.delete(holder)) onLeave()
      }
    },
    isClosing: () => isClosing
  }
})

/** Whether a scope around is being closed, other than those around the client: these wait for the client, so it cannot for them. */
const isClosingApartFrom = (client: Scope.Scope) => (scope: Scope.Scope): boolean =>
  scopesAround(scope).some(({ state }) => state._tag === "Closed") &&
  !scopesAround(scope).some((around) => around.state._tag === "Closed" && scopesAround(client).includes(around))

const scopesAround = (scope: Scope.Scope): ReadonlyArray<Scope.Scope> =>
  scope.parent === undefined ? [scope] : [scope, ...scopesAround(scope.parent)]
