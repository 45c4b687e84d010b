/**
 * The rounds of a latch or barrier in the store: `NAME/latch/current` or `NAME/barrier/current` holds the record of the
 * current round, and `NAME/latch/<round>/p:<participant>` exists for each participant of a round.
 *
 * Nothing is directly under `NAME/`: a lock of that name takes all keys there for contenders. And the record is not
 * `NAME`: a latch `a/b` would then block the lock `a`.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { execute } from "../../backend/KvBackend.ts"
import type { Kv } from "../../service/KvService.ts"
import * as Compare from "../../values/Compare.ts"
import type { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import * as internals from "../kv/internals.ts"

/** The record of the rounds. Without one, the first round is the current one. */
const Record = Schema.Struct({
  round: Schema.Int,
  /** Whether the current round of a latch was opened by hand. */
  open: Schema.optionalKey(Schema.Boolean),
  /** The last round before the current one that was opened by hand. Only of a latch. */
  opened: Schema.optionalKey(Schema.Int),
  /** How the round before ended: `""` if it opened, otherwise the participant that broke it. Only of a barrier. */
  broken: Schema.optionalKey(Schema.String)
})

/** A record and the revision that conditions on it compare. */
export type Rounds = typeof Record.Type & { readonly revision: bigint }

const decode = Schema.decodeUnknownOption(Schema.fromJsonString(Record))

/** The record of an entry. Fails if something else wrote it. */
export const of = (entry: Entry | undefined): Effect.Effect<Rounds, KvError.KvError> => {
  if (entry === undefined) return Effect.succeed({ round: 0, revision: 0n })
  return Option.match(decode(entry.lossyText), {
    onNone: () =>
      KvError.fail(
        new KvError.InvalidRequest({
          message: `the key ${
            JSON.stringify(entry.key)
          } holds something else than rounds: use another name, or delete the key`
        })
      ),
    onSome: (record) => Effect.succeed({ ...record, revision: entry.modRevision })
  })
}

export const encode = (record: typeof Record.Type): string => JSON.stringify(record)

/** The prefix of all keys of a latch or a barrier, without its last slash. */
export type Base = `${string}/latch` | `${string}/barrier`

/** The key of the record. */
export const recordOf = (base: Base): string => `${base}/current`

/** The prefix of the keys of a round. */
export const rangeOf = (base: Base, round: number): string => `${base}/${round}/`

/** The prefix of the keys of a round's participants. */
export const prefixOf = (base: Base, round: number): string => `${rangeOf(base, round)}p:`

/** The key of a participant. It has no slash after the prefix: deeper keys are those of other names. */
export const participantKeyOf = (base: Base, round: number, participant: string): string =>
  prefixOf(base, round) + participant.replaceAll("%", "%25").replaceAll("/", "%2F")

/** The participant of a key; `undefined` if it is none of that round. */
export const participantOf = (base: Base, round: number, key: string): string | undefined => {
  const prefix = prefixOf(base, round)
  const rest = key.startsWith(prefix) ? key.slice(prefix.length) : ""
  return rest === "" || rest.includes("/") ? undefined : rest.replaceAll("%2F", "/").replaceAll("%25", "%")
}

/** Rejects names that are not keys. */
export const checkNames = (name: string, participant: string | undefined): Effect.Effect<void, KvError.KvError> => {
  const problem = KeyRange.invalidKey(name) ??
    (participant === undefined ? undefined : KeyRange.invalidKey(participant))
  return problem === undefined
    ? Effect.void
    : KvError.fail(
      new KvError.InvalidRequest({
        message: `the names of a latch or barrier and its participants are keys, and ${problem}`
      })
    )
}

/** Rejects a number of participants that is not positive. */
export const checkCount = (what: string, count: number): Effect.Effect<void, KvError.KvError> =>
  Number.isSafeInteger(count) && count > 0
    ? Effect.void
    : KvError.fail(new KvError.InvalidRequest({ message: `${what} must be a whole number of 1 or more, not ${count}` }))

/** Writes in the current round. The first attempt assumes that there was no other. */
export const change = Effect.fnUntraced(function*(
  kv: Kv,
  base: Base,
  write: (current: Rounds) => ReadonlyArray<Op.Op>
): Effect.fn.Return<void, KvError.KvError> {
  let current: Rounds = { round: 0, revision: 0n }
  while (true) {
    const response = yield* execute(
      internals.of(kv).backend,
      Op.txn({
        if: [Compare.modRevision(recordOf(base), "=", current.revision)],
        then: write(current),
        else: [Op.get(recordOf(base))]
      })
    )
    if (response.succeeded) return
    current = yield* of(response.responses[0].entries[0])
  }
})
