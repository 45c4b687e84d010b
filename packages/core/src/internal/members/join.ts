/**
 * A member in the store: a temporary key that is kept through outages, and whose value may change while it is lost.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import type { Kv } from "../../service/KvService.ts"
import * as KvError from "../../values/KvError.ts"
import * as currentFences from "../fence/currentFences.ts"
import * as internals from "../kv/internals.ts"
import * as deletion from "../session/awaitDeletion.ts"
import type * as TempKeys from "../tempKey/model.ts"
import * as tempKeys from "../tempKey/tempKey.ts"
import type { TempKeyLost, TempKeyTaken } from "../tempKey/tempKeyErrors.ts"

/** A member whose value is text. */
export interface Joined extends Omit<TempKeys.TempKey, "set"> {
  readonly update: (value: string) => Effect.Effect<bigint, UpdateError>
}

type UpdateError = KvError.KvError | TempKeyLost | TempKeyTaken

/** A value of the member. A larger number is a later value. */
interface Version {
  readonly number: number
  readonly value: string
}

/** Joins with the value. The member is in the store when this returns, and until the scope closes. */
export const join = Effect.fnUntraced(function*(
  kv: Kv,
  key: string,
  value: string,
  options: Pick<TempKeys.Options, "ttl" | "onTaken">
): Effect.fn.Return<Joined, KvError.KvError | TempKeyTaken, Scope.Scope> {
  const { backend, origin, sessions, unfenced } = internals.of(kv)
  const scope = yield* Effect.scope
  const writing = yield* Semaphore.make(1)
  let last = 0
  let desired: Version = { number: last, value }
  /** The value with which the key was last made, or was to be. */
  let attempted = desired
  let stored: Version & { readonly revision: bigint } = { ...desired, revision: 0n }

  const tempKey = yield* tempKeys.open(
    { make: backend, unfenced, prefix: origin.prefix },
    sessions,
    key,
    { ...options, value },
    {
      valueNow: () => (attempted = desired).value,
      isRepeated: ({ reason }) => {
        if (reason._tag !== "RequestTooLarge") return reason._tag === "PermissionDenied"
        // A new value that the store rejects must not keep the member out.
        if (attempted.number === stored.number) return false
        if (desired === attempted) desired = stored
        return true
      }
    }
  )

  /** Writes the value, or a later one. */
  const write = (version: Version): Effect.Effect<bigint, UpdateError> =>
    Effect.suspend(() => {
      if (stored.number >= version.number) return Effect.succeed(stored.revision)
      const latest = desired.number > version.number ? desired : version
      return tempKey.set(latest.value).pipe(
        Effect.map((revision) => {
          stored = { ...latest, revision }
          return revision
        }),
        Effect.catch((error): Effect.Effect<bigint, UpdateError> => {
          if (KvError.isKvError(error)) {
            return tempKeys.mayPass(error)
              ? Effect.delay(write(version), deletion.retryInterval)
              : Effect.fail(error)
          }
          return Effect.andThen(untilHeld, write(version))
        })
      )
    })

  /** The loss is noticed after the failure that it causes, hence the pause. */
  const untilHeld = Effect.sleep(deletion.retryInterval).pipe(
    Effect.andThen(Stream.runHead(Stream.filter(tempKey.status, ({ _tag }) => _tag === "Held"))),
    Effect.flatMap((held): Effect.Effect<unknown, TempKeyLost | TempKeyTaken> =>
      Option.isSome(held) ? Effect.void : tempKey.lost
    )
  )

  const update = Effect.fnUntraced(function*(value: string) {
    const version: Version = { number: ++last, value }
    // A key that is made again is written without the fences of this fiber.
    const isFenced = (yield* currentFences.Current).length > 0
    if (!isFenced) desired = version
    const settle = Effect.sync(() => {
      // Written, or rejected.
      if (desired.number <= version.number) desired = stored
    })
    return yield* Semaphore.withPermit(writing, Effect.ensuring(write(version), settle))
  })

  return {
    ...tempKey,
    // Interrupting the caller does not interrupt the write; closing the scope does.
    update: (value) =>
      Effect.flatMap(
        Effect.forkIn(sessions.onClock(update(value)), scope, { startImmediately: true }),
        (fiber) =>
          Effect.flatMap(
            Fiber.await(fiber),
            (exit): Effect.Effect<bigint, UpdateError> => Exit.hasInterrupts(exit) ? tempKey.lost : exit
          )
      )
  }
})
