/**
 * The entry into a barrier, and the wait for the others.
 *
 * The end of a round is a fact of the store: the record `NAME/barrier/current` moves to the next round, and says whether the last one
 * opened or who broke it. Any participant that sees that the round is complete, or that one died, puts that record
 * if it is still the one of the round. So all participants agree, and none depends on another that dies.
 */
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import type { Kv } from "../../service/KvService.ts"
import * as Compare from "../../values/Compare.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import type * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import type * as Watch from "../../values/Watch.ts"
import { inChildScope } from "../childScope.ts"
import * as internals from "../kv/internals.ts"
import * as leasedKey from "../session/leasedKey.ts"
import type { SharedSession } from "../session/sharedSession.ts"
import * as useSession from "../session/useSession.ts"
import { BarrierBroken, BarrierRejected } from "./barrierErrors.ts"
import * as rounds from "./rounds.ts"

export const baseOf = (name: string): rounds.Base => `${name}/barrier`

export interface Options {
  readonly parties: number
  readonly id: string
  readonly onDeath?: "fail" | "ignore" | undefined
  readonly onLate?: "fail" | "next" | undefined
  readonly ttl?: Duration.Input | undefined
}

type Failure = KvError.KvError | BarrierBroken | BarrierRejected

/** Enters and waits until the barrier opens; returns the round. The participant leaves when the scope closes. */
export const enter = Effect.fnUntraced(function*(
  kv: Kv,
  name: string,
  options: Options
): Effect.fn.Return<number, Failure, Scope.Scope> {
  const { unfenced } = internals.of(kv)
  while (true) {
    const [entry] = (yield* execute(unfenced, Op.get(rounds.recordOf(baseOf(name))))).entries
    const current = yield* rounds.of(entry)
    if (options.onLate !== "next" && current.broken === "") {
      return yield* new BarrierRejected({ barrier: name, participant: options.id, reason: "Closed" })
    }
    const passed = yield* inChildScope(
      (scope) => attempt(kv, name, options, current, scope),
      (exit) => Exit.isSuccess(exit) && exit.value
    )
    if (passed) return current.round
  }
})

/** A participant in a round. */
interface Participant {
  readonly kv: Kv
  readonly name: string
  readonly base: rounds.Base
  readonly options: Options
  readonly current: rounds.Rounds
  readonly key: string
  readonly token: bigint
  readonly session: SharedSession
  /** The keys of the participants that were present when it entered, itself included. */
  readonly present: ReadonlyArray<string>
  /** Whether the round is over, so that leaving does not disturb it. */
  isOver: boolean
}

/** True when the round has opened; false if another round must be tried. */
const attempt = (
  kv: Kv,
  name: string,
  options: Options,
  current: rounds.Rounds,
  scope: Scope.Scope
): Effect.Effect<boolean, Failure> =>
  Effect.scopedWith((watching) =>
    Effect.gen(function*() {
      const { unfenced } = internals.of(kv)
      const base = baseOf(name)
      const watch = (range: KeyRange.KeyRange) => Scope.provide(unfenced.watch({ range }), watching)
      // From before the entry, so that no event after it is missed.
      const arrivals = yield* watch(KeyRange.prefix(rounds.rangeOf(base, current.round)))
      const record = yield* watch(KeyRange.key(rounds.recordOf(base)))
      const participant = yield* arrive(kv, name, options, current, scope)
      if (participant === undefined) return false
      const outcome = yield* Effect.raceAllFirst([
        ended(record),
        Effect.andThen(follow(participant, arrivals), Effect.never),
        lost(participant)
      ])
      participant.isOver = true
      if (outcome === undefined) return false
      if (outcome !== "") return yield* broken(participant, outcome)
      // One participant too many: it waited only for the round to be over.
      return participant.present.length <= options.parties
    })
  )

/** Puts the participant's key, if the round is still the current one. */
const arrive = (
  kv: Kv,
  name: string,
  options: Options,
  current: rounds.Rounds,
  scope: Scope.Scope
): Effect.Effect<Participant | undefined, KvError.KvError | BarrierRejected> => {
  const { origin, sessions, unfenced } = internals.of(kv)
  const base = baseOf(name)
  const record = rounds.recordOf(base)
  const key = rounds.participantKeyOf(base, current.round, options.id)
  const put = (session: SharedSession) =>
    Effect.gen(function*() {
      // A key whose write had an unknown outcome is recognised by its lease: one participant of a name for each lease.
      const claimed = `barrier ${origin.prefix}${key}`
      if (!session.tryClaim(claimed)) return "Taken" as const
      const onGone = () => session.unclaim(claimed)
      let participant: Participant | undefined
      let hasSaidGoodbye = false
      const { result } = yield* leasedKey.write({
        backend: unfenced,
        session,
        key,
        write: Effect.map(
          execute(
            unfenced,
            Op.txn({
              if: [Compare.modRevision(record, "=", current.revision), Compare.missing(key)],
              then: [
                Op.put(key, "", { lease: session.lease }),
                Op.range(KeyRange.prefix(rounds.prefixOf(base, current.round)), { keysOnly: true })
              ],
              else: [Op.get(key, { countOnly: true })]
            })
          ),
          (response): Arrival =>
            response.succeeded
              ? {
                token: response.revision,
                present: response.responses[1].entries.map(({ key }) => key).filter((key) =>
                  isParticipant(base, current, key)
                )
              }
              : { token: undefined, isTaken: response.responses[0].count > 0 }
        ),
        identify: ({ token }: Arrival) => token === undefined ? undefined : Compare.createRevision(key, "=", token),
        removedWith: () => {
          hasSaidGoodbye = participant?.isOver !== true
          return hasSaidGoodbye ? [goodbye(base, current, key, session.lease)] : []
        },
        afterRemoval: () => hasSaidGoodbye ? removeGoodbye(unfenced, base, current.round, key) : Effect.void,
        onRemove: () => {},
        onGone
      }, scope)
      if (result.token !== undefined) {
        return participant = { kv, name, base, options, current, key, session, isOver: false, ...result }
      }
      onGone()
      return result.isTaken ? "Taken" as const : undefined
    })
  return Effect.flatMap(
    useSession.withLive(sessions, options.ttl, scope, put),
    (arrived) =>
      arrived === "Taken"
        ? Effect.fail(new BarrierRejected({ barrier: name, participant: options.id, reason: "Taken" }))
        : Effect.succeed(arrived)
  )
}

type Arrival =
  | { readonly token: bigint; readonly present: ReadonlyArray<string> }
  | { readonly token: undefined; readonly isTaken: boolean }

/** The key whose value is the key of the last participant that left a round before it was over. */
const leftKeyOf = (base: rounds.Base, round: number): string => `${rounds.rangeOf(base, round)}left`

const isParticipant = (base: rounds.Base, { round }: rounds.Rounds, key: string): boolean =>
  rounds.participantOf(base, round, key) !== undefined

/** Put together with the removal of a participant's key, so that this is not mistaken for a death. */
const goodbye = (base: rounds.Base, { revision, round }: rounds.Rounds, key: string, lease: bigint): Op.Op =>
  Op.txn({
    if: [Compare.modRevision(rounds.recordOf(base), "=", revision)],
    then: [Op.put(leftKeyOf(base, round), key, { lease })]
  })

/** The others have the event, or will. If the session ends before, the key goes with its lease. */
const removeGoodbye = (
  backend: KvBackend,
  base: rounds.Base,
  round: number,
  key: string
): Effect.Effect<unknown, KvError.KvError> => {
  const left = leftKeyOf(base, round)
  return execute(backend, Op.txn({ if: [Compare.value(left, "=", key)], then: [Op.delete(left)] }))
}

/** How the round ended: `""` if it opened, otherwise who broke it; `undefined` if it was reset. */
const ended = ({ take }: Watch.Watcher): Effect.Effect<string | undefined, KvError.KvError> =>
  Effect.flatMap(
    take,
    ([{ events: [event] }]) =>
      event._tag === "Delete" ? Effect.undefined : Effect.map(rounds.of(event.entry), ({ broken }) => broken)
  )

/** Follows the arrivals, and proposes the end of the round that they imply. */
const follow = (
  participant: Participant,
  { take }: Watch.Watcher
): Effect.Effect<void, KvError.KvError | BarrierBroken> =>
  Effect.gen(function*() {
    const { base, current, options, token } = participant
    const present = new Set(participant.present)
    // The last to arrive opens at once, the others only if it does not.
    if (present.size >= options.parties) return yield* propose(participant, "")
    while (true) {
      for (const { events, revision } of yield* take) {
        if (revision <= token) continue
        const left = events.find(({ key }) => key === leftKeyOf(base, current.round))
        for (const event of events) {
          const who = rounds.participantOf(base, current.round, event.key)
          if (who === undefined) continue
          if (event._tag === "Put") present.add(event.key)
          else if (event.key === participant.key) return yield* broken(participant, options.id, "Unknown")
          else if (present.delete(event.key) && options.onDeath !== "ignore" && !isGoodbye(left, event.key)) {
            yield* awhile
            return yield* propose(participant, who)
          }
          if (present.size >= options.parties) {
            yield* awhile
            return yield* propose(participant, "")
          }
        }
      }
    }
  })

const isGoodbye = (left: Watch.Event | undefined, key: string): boolean =>
  left?._tag === "Put" && left.entry.lossyText === key

/** All waiters see the same. The first of them proposes the next record, and the others notice that before they do. */
const awhile = Effect.flatMap(Random.next, (random) => Effect.sleep(50 + Math.ceil(random * 200)))

/** Ends the round, unless it has ended. Repeated until the store responds. */
const propose = (participant: Participant, broken: string): Effect.Effect<void, KvError.KvError> => {
  const { base, current, kv } = participant
  return execute(
    internals.of(kv).unfenced,
    Op.txn({
      if: [Compare.modRevision(rounds.recordOf(base), "=", current.revision)],
      then: [
        Op.put(rounds.recordOf(base), rounds.encode({ round: current.round + 1, broken })),
        Op.delete(leftKeyOf(base, current.round))
      ]
    })
  ).pipe(
    Effect.asVoid,
    Effect.catch((error) =>
      error.isRetryable || error.outcome === "Unknown"
        ? Effect.delay(propose(participant, broken), "500 millis")
        : Effect.fail(error)
    )
  )
}

/** Fails when this participant's own lease is lost. */
const lost = (participant: Participant): Effect.Effect<never, BarrierBroken> =>
  Effect.suspend(() => {
    const deferred = Deferred.makeUnsafe<never, BarrierBroken>()
    const stop = participant.session.onLost(() =>
      Deferred.doneUnsafe(deferred, broken(participant, participant.options.id, "Unknown"))
    )
    return Effect.ensuring(Deferred.await(deferred), Effect.sync(stop))
  })

const broken = (
  { current, name }: Participant,
  participant: string,
  outcome: "NotApplied" | "Unknown" = "NotApplied"
): Effect.Effect<never, BarrierBroken> =>
  Effect.failSync(() => new BarrierBroken({ barrier: name, round: current.round, participant, outcome }))
