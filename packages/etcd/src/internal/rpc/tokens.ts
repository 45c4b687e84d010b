/**
 * The token that identifies the user.
 *
 * All endpoints share one token, because the members of a cluster know each other's tokens. One request at a time
 * fetches it, however many calls wait. It is replaced only if the server rejected a call with this token.
 */
import * as KvError from "@effect-kv/core/KvError"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"

/** `undefined` if requests need none: there are no credentials, or the cluster has authentication disabled. */
export type Token = string | undefined

/** The known errors that delay a result. */
export type LastErrors = () => ReadonlyArray<string>

export const noErrors: LastErrors = () => []

export interface Tokens {
  /** The token to use now. */
  readonly get: Effect.Effect<Token, KvError.KvError>
  /** Forgets this token, so that `get` fetches a new one. */
  readonly rejected: (token: Token) => void
  /** The token that `get` would return at once, or `undefined` if it would have to fetch one. */
  readonly current: () => { readonly token: Token } | undefined
  /** Whether there are credentials to fetch a token. */
  readonly hasCredentials: boolean
  /** The last errors of the current token request. */
  readonly lastErrors: LastErrors
}

/** The tokens of a client without credentials. */
export const none: Tokens = {
  get: Effect.succeed(undefined),
  rejected: () => {},
  current: () => noToken,
  hasCredentials: false,
  lastErrors: noErrors
}

const noToken = { token: undefined }

const closed = KvError.fail(new KvError.Closed({ message: "the client was closed" }))

/** Tokens fetched by `authenticate`. A request runs in the scope, so it outlives the call that started it. */
export const make = (
  authenticate: Effect.Effect<Token, KvError.KvError>,
  scope: Scope.Scope,
  lastErrors: LastErrors = noErrors
): Tokens => {
  let current: { readonly token: Token } | undefined
  let fetching: Deferred.Deferred<Token, KvError.KvError> | undefined
  const begin = Effect.suspend(() => {
    if (fetching !== undefined) return Effect.succeed(fetching)
    const deferred = fetching = Deferred.makeUnsafe<Token, KvError.KvError>()
    return Effect.map(Effect.forkIn(authenticate, scope), (fiber) => {
      fiber.addObserver((exit) => {
        fetching = undefined
        if (exit._tag === "Success") current = { token: exit.value }
        // Only closing the scope interrupts the request. The waiters must then fail with `Closed`, not be interrupted.
        Deferred.doneUnsafe(deferred, Exit.hasInterrupts(exit) ? closed : exit)
      })
      return deferred
    })
  })
  // Other calls wait for `fetching`, so an interruption must not come between setting it and starting the request.
  const fetch = Effect.flatMap(Effect.uninterruptible(begin), Deferred.await)
  const currentOrFetched = Effect.suspend(() => current !== undefined ? Effect.succeed(current.token) : fetch)
  return {
    // A request that was in flight before may have been rejected before this call began, and the credentials or the
    // cluster's authentication may have changed since.
    get: Effect.suspend(() =>
      fetching === undefined
        ? currentOrFetched
        : Effect.catchReason(currentOrFetched, "KvError", "Unauthenticated", () => currentOrFetched)
    ),
    rejected: (token) => {
      if (current?.token === token) current = undefined
    },
    current: () => current,
    hasCredentials: true,
    lastErrors
  }
}
