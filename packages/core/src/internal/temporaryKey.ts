/**
 * How a `TempKey` is kept: put under a shared session's lease, watched, and put again when it is gone.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Compare from "../Compare.ts"
import type { KvBackend } from "../KvBackend.ts"
import * as KvError from "../KvError.ts"
import * as Op from "../Op.ts"
import type { Options, TempKey } from "../TempKey.ts"
import * as attachedKey from "./attachedKey.ts"
import * as deletion from "./deletion.ts"
import type { SessionPool, SharedSession } from "./sessionPool.ts"
import * as sessionPool from "./sessionPool.ts"
import { TempKeyLost } from "./tempKeyLost.ts"

/**
 * Makes a temporary key, which exists when this returns and until the scope closes. `making` writes it, the first time and
 * again: fenced as the fiber is that calls this. Everything else goes through `backend`, unfenced.
 */
export const open = Effect.fnUntraced(function*(
  making: KvBackend,
  backend: KvBackend,
  sessions: SessionPool,
  key: string,
  options?: Options
): Effect.fn.Return<TempKey, KvError.KvError, Scope.Scope> {
  const lost = yield* Deferred.make<never, TempKeyLost>()
  const lose = Deferred.fail(lost, new TempKeyLost({ key }))
  yield* Effect.addFinalizer(() => lose)

  // A scope of its own, so that what keeps the key is stopped before the key is removed.
  const outer = yield* Scope.fork(yield* Effect.scope)
  const publish = publishIn(making, backend, sessions, outer, key, options)

  const keep = Effect.fnUntraced(function*(first: Published): Effect.fn.Return<void, KvError.KvError> {
    let published = first
    while (true) {
      yield* untilGone(backend, key, published)
      yield* published.session.verify
      yield* Scope.close(published.scope, Exit.void)
      if (options?.onLost === "fail") return
      published = yield* retryWhileOutOfReach(publish)
    }
  })

  const first = yield* publish
  yield* keep(first).pipe(
    Effect.catch((error) =>
      Effect.logWarning(`effect-kv: the temporary key ${JSON.stringify(key)} cannot be kept`, error.message)
    ),
    Effect.andThen(lose),
    Effect.forkScoped
  )
  return { key, lost: Deferred.await(lost) }
})

/** The key as it was put last. */
interface Published {
  readonly scope: Scope.Closeable
  readonly session: SharedSession
  readonly modRevision: bigint
}

/** Puts the key, until the scope closes or that of what is published does. */
const publishIn = (
  making: KvBackend,
  backend: KvBackend,
  sessions: SessionPool,
  outer: Scope.Scope,
  key: string,
  options: Options | undefined
): Effect.Effect<Published, KvError.KvError> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Scope.fork(outer), (scope) =>
      Effect.onExit(
        restore(
          sessionPool.withLive(
            sessions,
            options?.ttl,
            scope,
            (session) => put(making, backend, session, scope, key, options)
          )
        ),
        (exit) => Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void
      ))
  )

const put = (
  making: KvBackend,
  backend: KvBackend,
  session: SharedSession,
  scope: Scope.Closeable,
  key: string,
  options: Options | undefined
): Effect.Effect<Published, KvError.KvError> => {
  // The lease tells a temporary key of ours from others. So of the same name there is one to a lease, and a second one
  // stands on another session.
  const claimed = `temporary ${key}`
  if (!session.tryClaim(claimed)) {
    return Effect.andThen(
      session.retire,
      KvError.fail(
        new KvError.LeaseNotFound({ message: `the lease has a temporary key ${JSON.stringify(key)} already` })
      )
    )
  }
  const token = session.claim(session.lease.toString(16))
  const written = attachedKey.write({
    backend,
    session,
    key,
    write: making.execute(Op.put(key, options?.value ?? token, { lease: session.lease })),
    identify: () => Compare.lease(key, "=", session.lease),
    onRemove: () => {},
    onGone: () => {
      session.unclaim(token)
      session.unclaim(claimed)
    }
  }, scope)
  return Effect.map(written, ({ answer }) => ({ scope, session, modRevision: answer.revision }))
}

/** A key that somebody has written to is there, which is what it was put for; so only its deletion is waited for. */
const untilGone = (backend: KvBackend, key: string, { modRevision, session }: Published) =>
  Effect.raceFirst(session.lost, deletion.await(backend, key, modRevision, () => true))

const retryWhileOutOfReach = (
  publish: Effect.Effect<Published, KvError.KvError>
): Effect.Effect<Published, KvError.KvError> =>
  Effect.catch(publish, (error) => {
    switch (error.reason._tag) {
      case "Unavailable":
      case "DeadlineExceeded":
      case "Indeterminate":
      case "LeaseNotFound":
      case "QuotaExceeded":
      case "Unauthenticated":
        return Effect.delay(retryWhileOutOfReach(publish), deletion.retryInterval)
      default:
        return Effect.fail(error)
    }
  })
