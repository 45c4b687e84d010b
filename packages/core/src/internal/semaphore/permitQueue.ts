/**
 * The queue of a semaphore: a contender of weight w is admitted when the weights ahead of it and w are at most N.
 *
 * So never more than N permits are held. Of the holders at any revision take the youngest. When it was admitted, all the
 * others were ahead of it and counted. A smaller N, set by a resize, holds for those admitted after it.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import type { Kv } from "../../service/KvService.ts"
import * as Compare from "../../values/Compare.ts"
import type { Entry } from "../../values/Entry.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import { PermitsMismatch, TooManyPermits } from "../../values/SemaphoreError.ts"
import * as internals from "../kv/internals.ts"
import * as rule from "../queue/rule.ts"
import * as permitKeys from "./permitKeys.ts"
import * as permitView from "./permitView.ts"

/** A semaphore as this client knows it. */
export interface Semaphore {
  readonly kv: Kv
  readonly name: string
  /** The number of permits that this client was configured with. */
  readonly configured: number
  /** The number of permits as last seen. */
  permits: number
  /** The create revision of the key that stores it: another one means that another client has made it again. */
  createRevision: bigint
}

export type Failure = KvError.KvError | PermitsMismatch | TooManyPermits

/**
 * Reads N, and stores it if no client has. Follows a resize. Fails if another client has made the semaphore with another
 * N.
 */
export const refresh = (semaphore: Semaphore): Effect.Effect<void, KvError.KvError | PermitsMismatch> =>
  Effect.flatMap(
    execute(
      internals.of(semaphore.kv).unfenced,
      Op.txn({
        if: [Compare.missing(permitKeys.limitOf(semaphore.name))],
        then: [Op.put(permitKeys.limitOf(semaphore.name), `${semaphore.permits}`)],
        else: [Op.get(permitKeys.limitOf(semaphore.name))]
      })
    ),
    (response) => {
      if (response.succeeded) {
        semaphore.createRevision = response.revision
        return Effect.void
      }
      return note(semaphore, response.responses[0].entries[0])
    }
  )

/** Notes the number of permits in the store. */
const note = (semaphore: Semaphore, entry: Entry | undefined): Effect.Effect<void, KvError.KvError | PermitsMismatch> =>
  Effect.suspend((): Effect.Effect<void, KvError.KvError | PermitsMismatch> => {
    if (entry === undefined) return Effect.void
    const { configured, createRevision, name, permits } = semaphore
    const stored = permitKeys.countOf(entry)
    if (stored === undefined) {
      const message = `the key ${JSON.stringify(entry.key)} has a value that is not a number of permits`
      return KvError.fail(new KvError.InvalidRequest({ message }))
    }
    if (entry.createRevision !== createRevision && stored !== configured && stored !== permits) {
      return Effect.fail(new PermitsMismatch({ semaphore: name, permits: configured, stored }))
    }
    semaphore.permits = stored
    semaphore.createRevision = entry.createRevision
    return Effect.void
  })

/** Fails if the semaphore does not have that many permits. */
export const checkWeight = ({ name, permits }: Semaphore, weight: number): Effect.Effect<void, Failure> => {
  if (!permitKeys.isCount(weight)) {
    const message = `the number of permits must be a whole number of at least 1, not ${weight}`
    return KvError.fail(new KvError.InvalidRequest({ message }))
  }
  return weight <= permits
    ? Effect.void
    : Effect.fail(new TooManyPermits({ semaphore: name, requested: weight, permits }))
}

/** What a contender has found out about N. */
const refreshed = (semaphore: Semaphore, weight: number): Effect.Effect<void, Failure> =>
  Effect.andThen(refresh(semaphore), Effect.suspend(() => checkWeight(semaphore, weight)))

export const queueOf = (
  semaphore: Semaphore,
  weight: number,
  description: string | undefined
): rule.Queue<Failure> => {
  const { name } = semaphore
  let permitsAtEntry = semaphore.permits
  return {
    name,
    prefix: permitKeys.prefixOf(name),
    isMovable: true,
    watchesOwnKey: true,
    claim: { id: permitKeys.prefixOf(name), weight, limit: semaphore.permits },
    enter: (backend, key, lease) => {
      const permits = permitsAtEntry = semaphore.permits
      // Another fiber has noted a resize since the request was checked.
      if (weight > permits) return Effect.succeed({ _tag: "Refused" })
      return Effect.map(
        execute(
          backend,
          Op.txn({
            if: [Compare.missing(key), Compare.value(permitKeys.limitOf(name), "=", `${permits}`)],
            then: [ahead(name, permits), Op.put(key, permitKeys.valueOf(weight, description), { lease })],
            else: [Op.get(key, { keysOnly: true })]
          })
        ),
        (response): rule.Entry => {
          if (response.succeeded) {
            const standing = standingBehind(name, response.responses[0], weight, permits)
            return { _tag: "Entered", createRevision: response.revision, standing }
          }
          return response.responses[0].count > 0 ? { _tag: "KeyExists" } : { _tag: "Refused" }
        }
      )
    },
    onRefused: refreshed(semaphore, weight),
    awaitTurn: (kv, place, standing, observer) =>
      permitView.awaitTurn(kv, name, { place, weight, permits: permitsAtEntry }, standing, observer)
  }
}

/** The most keys that are read to find out the weights ahead, while there is no view. */
const maxAhead = 128

/**
 * Some of the contenders ahead, in any order. As each has a weight of at least 1, N of them are enough to tell that there
 * is no room.
 */
const ahead = (name: string, permits: number): Op.Range =>
  Op.range(permitKeys.contendersOf(name), { limit: Math.min(permits, maxAhead) })

const standingBehind = (
  name: string,
  response: Op.RangeResponse,
  weight: number,
  permits: number
): rule.Standing => {
  const contenders = response.entries.filter((entry) => permitKeys.isContender(name, entry))
  if (weightOf(contenders) + weight > permits) {
    const permanent = contenders.find(({ lease }) => lease._tag === "None")
    const predecessor = permanent ?? contenders[0]
    return {
      _tag: "Behind",
      predecessor: predecessor?.key ?? permitKeys.prefixOf(name),
      isPermanent: permanent !== undefined
    }
  }
  return response.more ? rule.unclear : rule.admitted
}

const weightOf = (contenders: ReadonlyArray<Entry>): number =>
  contenders.reduce((sum, entry) => sum + permitKeys.permitsOf(entry).weight, 0)

/**
 * Enters if there is room now, in one transaction; `undefined` if not. A failed attempt leaves nothing and delays no
 * other client. Sets `outcome.isRefused` if N was another.
 *
 * The first transaction requires that there is no contender. If there are some, they are read, and another transaction
 * enters unless one was created since.
 */
export const enterIfFree = (
  { name, permits }: Semaphore,
  weight: number,
  description: string | undefined,
  outcome: { isRefused: boolean }
) =>
  Effect.fnUntraced(function*(
    backend: KvBackend,
    [{ key }]: NonEmptyReadonlyArray<{ readonly key: string }>,
    lease: bigint
  ): Effect.fn.Return<{ readonly createRevision: bigint } | undefined, KvError.KvError> {
    const range = permitKeys.contendersOf(name)
    const hasRoom = (response: Op.RangeResponse) => standingBehind(name, response, weight, permits)._tag !== "Behind"
    outcome.isRefused = false
    let knownUpTo = 0n
    while (true) {
      const response = yield* execute(
        backend,
        Op.txn({
          if: [
            Compare.missing(key),
            Compare.value(permitKeys.limitOf(name), "=", `${permits}`),
            Compare.createdBefore(range, knownUpTo + 1n)
          ],
          then: [Op.put(key, permitKeys.valueOf(weight, description), { lease })],
          else: [Op.txn({ if: [Compare.value(permitKeys.limitOf(name), "=", `${permits}`)] }), ahead(name, permits)]
        })
      )
      if (response.succeeded) return { createRevision: response.revision }
      const [sameLimit, some] = response.responses
      if (!sameLimit.succeeded) {
        outcome.isRefused = true
        return undefined
      }
      const all = some.more && hasRoom(some) ? yield* execute(backend, Op.range(range)) : some
      if (!hasRoom(all) || all.entries.some((entry) => entry.key === key)) return undefined
      knownUpTo = all.revision
    }
  })

/** Sets N, for this client and all others. */
export const resize = Effect.fnUntraced(function*(
  semaphore: Semaphore,
  permits: number
): Effect.fn.Return<void, Failure> {
  yield* checkPermits(permits)
  const { kv, name } = semaphore
  while (true) {
    const response = yield* execute(
      // Under the fences of the calling fiber, as every write of an application.
      internals.of(kv).backend,
      Op.txn({
        if: [Compare.value(permitKeys.limitOf(name), "=", `${semaphore.permits}`)],
        then: [Op.put(permitKeys.limitOf(name), `${permits}`)],
        else: [Op.get(permitKeys.limitOf(name))]
      })
    )
    if (response.succeeded) {
      semaphore.permits = permits
      return
    }
    yield* response.responses[0].count > 0 ? note(semaphore, response.responses[0].entries[0]) : refresh(semaphore)
  }
})

/** Fails if a semaphore cannot have that many permits. */
export const checkPermits = (permits: number): Effect.Effect<void, KvError.KvError> =>
  permitKeys.isCount(permits)
    ? Effect.void
    : KvError.fail(
      new KvError.InvalidRequest({
        message: `the permits of a semaphore must be a whole number of at least 1, not ${permits}`
      })
    )

/** Removes N if there is no contender; false if there is one. */
export const remove = ({ kv, name }: Semaphore): Effect.Effect<boolean, KvError.KvError> =>
  Effect.map(
    execute(
      internals.of(kv).backend,
      Op.txn({
        if: [Compare.empty(permitKeys.contendersOf(name))],
        then: [Op.delete(permitKeys.limitOf(name))]
      })
    ),
    (response) => response.succeeded
  )

/** N as it is stored; as last seen if it is not stored. */
export const stored = ({ kv, name, permits }: Semaphore): Effect.Effect<number, KvError.KvError> =>
  Effect.map(
    execute(internals.of(kv).unfenced, Op.get(permitKeys.limitOf(name))),
    ({ entries: [entry] }) => (entry && permitKeys.countOf(entry)) ?? permits
  )

/** All contenders in the order of the queue, and N, at one revision. */
export const read = Effect.fnUntraced(function*({ kv, name, permits }: Semaphore) {
  const { responses: [stored, all] } = yield* execute(
    internals.of(kv).unfenced,
    Op.txn({
      then: [
        Op.get(permitKeys.limitOf(name)),
        Op.range(permitKeys.contendersOf(name), { order: { by: "createRevision" } })
      ],
      else: [Op.get(permitKeys.limitOf(name)), Op.range(permitKeys.contendersOf(name))]
    })
  )
  return {
    permits: (stored.entries[0] && permitKeys.countOf(stored.entries[0])) ?? permits,
    contenders: all.entries.filter((entry) => permitKeys.isContender(name, entry))
  }
})
