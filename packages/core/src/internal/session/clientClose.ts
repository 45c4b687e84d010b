/**
 * The first step of a client's close: it notifies the holders of its locks, and waits until they have released them.
 *
 * A program that is interrupted closes its layers before the fibers that it forked have ended. If the client released
 * their locks at once, the next holder would begin while finalizers of the previous one still run.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as KvError from "../../values/KvError.ts"

/** The reason for errors and losses that the client's close causes. */
export const closedMessage = "the client was closed"

/** The failure of a call on a closed client. */
export const closed: KvError.KvError = KvError.make(new KvError.Closed({ message: closedMessage }))

/** A holder of a lock, or a waiter for one. */
export interface Holder {
  /** Called once, when the client begins to close. */
  readonly onClosing: () => void
  /**
   * Whether the close can rely on the holder to release its locks. The argument tests whether a scope is being closed
   * independently of the client.
   */
  readonly isAwaited: (isClosing: (scope: Scope.Scope) => boolean) => boolean
}

export interface Holders {
  /** Adds a holder. Returns the function that removes it. */
  readonly add: (holder: Holder) => () => void
  /** Whether the client has begun to close. From then on it opens no session. */
  readonly isClosing: () => boolean
}

/** The longest time that the close waits for holders. */
export const maxWait: Duration.Duration = Duration.seconds(5)

/** When the scope closes, notifies the holders and waits for them. */
export const make: Effect.Effect<Holders, never, Scope.Scope> = Effect.gen(function*() {
  const scope = yield* Effect.scope
  const clock = yield* Clock.Clock
  const holders = new Set<Holder>()
  let isClosing = false
  let onRemoved = () => {}

  const untilReleased = (awaited: ReadonlyArray<Holder>): Effect.Effect<void> =>
    Effect.callback((resume) => {
      onRemoved = () => {
        if (!awaited.some((holder) => holders.has(holder))) resume(Effect.void)
      }
      onRemoved()
    })

  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      isClosing = true
      const awaited = [...holders].filter((holder) => holder.isAwaited(isClosingWithout(scope)))
      for (const holder of holders) holder.onClosing()
      return awaited.length === 0
        ? Effect.void
        : Effect.asVoid(Effect.timeoutOption(untilReleased(awaited), maxWait))
      // The fiber that closes the client may have another clock, such as a test clock that stands still.
    }).pipe(Effect.provideService(Clock.Clock, clock))
  )

  return {
    add: (holder) => {
      holders.add(holder)
      return () => {
        if (holders.delete(holder)) onRemoved()
      }
    },
    isClosing: () => isClosing
  }
})

/**
 * Whether a scope is being closed independently of the client. A scope that contains both closes the client first, so
 * waiting for it would be a deadlock.
 */
const isClosingWithout = (client: Scope.Scope) => (scope: Scope.Scope): boolean =>
  scopesAround(scope).some(({ state }) => state._tag === "Closed") &&
  !scopesAround(scope).some((around) => around.state._tag === "Closed" && scopesAround(client).includes(around))

const scopesAround = (scope: Scope.Scope): ReadonlyArray<Scope.Scope> =>
  scope.parent === undefined ? [scope] : [scope, ...scopesAround(scope.parent)]
