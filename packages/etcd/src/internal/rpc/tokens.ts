/**
 * The token that says who is calling.
 *
 * There is one for all endpoints: members of a cluster know each other's tokens. It is fetched by one request at a time,
 * however many calls wait for it, and replaced only for a call that was rejected with this very token.
 */
import * as KvError from "@effect-kv/core/KvError"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"

/** `undefined` where requests need none: no credentials were given, or the cluster has authentication disabled. */
export type Token = string | undefined

/** What keeps something from being had, as far as is known. */
export type LastErrors = () => ReadonlyArray<string>

export const noErrors: LastErrors = () => []

export interface Tokens {
  /** The token to use now. */
  readonly get: Effect.Effect<Token, KvError.KvError>
  /** Forgets this token, so that `get` fetches a new one. */
  readonly rejected: (token: Token) => void
  /** The token that `get` would answer with at once, `undefined` where it would have to fetch one. */
  readonly current: () => { readonly token: Token } | undefined
  /** Whether there are credentials to get a token with. */
  readonly hasCredentials: boolean
  /** What keeps the token that is being fetched. */
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

/** The tokens that `authenticate` gets. Fetching goes on in the scope when the call that began it is interrupted. */
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
        // Only the end of the scope interrupts it, and those who wait are to be told so, not to be interrupted too.
        Deferred.doneUnsafe(deferred, Exit.hasInterrupts(exit) ? closed : exit)
      })
      return deferred
    })
  })
  // What others wait for must have begun: the call that begins it may be interrupted at any step.
  const fetch = Effect.flatMap(Effect.uninterruptible(begin), Deferred.await)
  return {
    get: Effect.suspend(() => current !== undefined ? Effect.succeed(current.token) : fetch),
    rejected: (token) => {
      if (current?.token === token) current = undefined
    },
    current: () => current,
    hasCredentials: true,
    lastErrors
  }
}
