/**
 * The rounds of a latch or barrier in the store: `NAME` holds the record of the current round, and
 * `NAME/<round>/p:<participant>` exists for each participant of a round.
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
          message: `the key ${JSON.stringify(entry.key)} holds something else than rounds: use another name`
        })
      ),
    onSome: (record) => Effect.succeed({ ...record, revision: entry.modRevision })
  })
}

export const encode = (record: typeof Record.Type): string => JSON.stringify(record)

/** The prefix of the keys of a round's participants. */
export const prefixOf = (name: string, round: number): string => `${name}/${round}/p:`

/** The name of the participant of a key. */
export const participantOf = (name: string, round: number, key: string): string =>
  key.slice(prefixOf(name, round).length)

/** Rejects names that are no keys. */
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
  name: string,
  write: (current: Rounds) => ReadonlyArray<Op.Op>
): Effect.fn.Return<void, KvError.KvError> {
  let current: Rounds = { round: 0, revision: 0n }
  while (true) {
    const response = yield* execute(
      internals.of(kv).backend,
      Op.txn({
        if: [Compare.modRevision(name, "=", current.revision)],
        then: write(current),
        else: [Op.get(name)]
      })
    )
    if (response.succeeded) return
    current = yield* of(response.responses[0].entries[0])
  }
})
