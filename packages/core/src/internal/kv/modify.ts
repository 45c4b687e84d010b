/**
 * `Kv.modify`: reads a key, and writes what a function makes of it if no other client wrote in between; otherwise tries
 * again.
 *
 * A client runs one modify of a key at a time, because n concurrent ones would need n * n / 2 transactions. Modifies of
 * different clients still race. The next modify starts from what the previous one wrote, which saves the read. Other
 * writes of the client wait if they have come in between twice.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import * as Compare from "../../values/Compare.ts"
import type { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import type * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import * as conflicts from "./conflicts.ts"
import { type Turn, Turns } from "./turns.ts"

/** The entry that a modify replaces. */
export interface Current {
  /** The text of the key; `none` for a missing key. Fails if the value is not UTF-8. */
  readonly text: Effect.Effect<Option.Option<string>, KvError.KvError>
  /** `0n` if the key does not exist. */
  readonly modRevision: bigint
  readonly lease: Option.Option<bigint>
}

/** What a modify does with an entry: the text to write, or `none` to leave it; and the result of the modify. */
export interface Change<A> {
  readonly text: Option.Option<string>
  readonly result: A
}

/**
 * What a modify wrote, and through which backend. A wrapper may transform values, so another backend must read again.
 */
interface Written {
  readonly current: Current
  readonly backend: KvBackend
}

const turnsByClient = new WeakMap<object, Turns<Written>>()

/** The client of a `Kv`, and the prefix of the `Kv`'s keys at its root. All `Kv`s of a client share its turns. */
export interface KeySpace {
  readonly client: object
  readonly prefix: string
}

const turnsOf = ({ client }: KeySpace): Turns<Written> => {
  const turns = turnsByClient.get(client) ?? new Turns<Written>()
  turnsByClient.set(client, turns)
  return turns
}

/** Modifies a key by a function of its entry. */
export interface Modify {
  <A, E>(
    key: string,
    f: (current: Current) => Effect.Effect<Change<A>, E>
  ): Effect.Effect<A, E | KvError.KvError>
}

export const make = (backend: KvBackend, keySpace: KeySpace): Modify => {
  const turns = turnsOf(keySpace)

  const read = (key: string): Effect.Effect<Current, KvError.KvError> =>
    Effect.map(execute(backend, Op.get(key)), (response) => currentOf(response.entries[0]))

  const attempt = Effect.fnUntraced(function*<A, E>(
    turn: Turn<Written>,
    key: string,
    f: (current: Current) => Effect.Effect<Change<A>, E>
  ): Effect.fn.Return<A, E | KvError.KvError> {
    const attempts = yield* conflicts.start
    const note = turn.take()
    let current: Current
    let change: Change<A>
    // Another client may have written since the note. A write finds out, but nothing else would.
    const noted = note?.backend === backend ? yield* Effect.exit(f(note.current)) : undefined
    if (note !== undefined && noted?._tag === "Success" && Option.isSome(noted.value.text)) {
      current = note.current
      change = noted.value
    } else {
      current = yield* read(key)
      change = yield* f(current)
    }
    const write = Effect.gen(function*(): Effect.fn.Return<Option.Option<A>, E | KvError.KvError> {
      if (Option.isNone(change.text)) return Option.some(change.result)
      const text = change.text
      const response = yield* execute(
        backend,
        Op.txn({
          if: [Compare.modRevision(key, "=", current.modRevision)],
          then: [Op.put(key, text.value, { lease: current.lease })],
          else: [Op.get(key)]
        })
      )
      if (response.succeeded) {
        turn.leave({ current: { ...current, text: Effect.succeed(text), modRevision: response.revision }, backend })
        return Option.some(change.result)
      }
      current = currentOf(response.responses[0].entries[0])
      change = yield* f(current)
      return Option.none()
    })
    const first = yield* write
    if (Option.isSome(first)) return first.value
    const ranges = (): ReadonlyArray<KeyRange.KeyRange> => [KeyRange.key(keySpace.prefix + key)]
    return yield* conflicts.untilSuccess(attempts, { client: keySpace.client, ranges }, write)
  })

  return (key, f) => turns.run(keySpace.prefix + key, (turn) => attempt(turn, key, f))
}

const currentOf = (entry: Entry | undefined): Current =>
  entry === undefined
    ? { text: Effect.succeed(Option.none()), modRevision: 0n, lease: Option.none() }
    : { text: Effect.map(entry.text, Option.some), modRevision: entry.modRevision, lease: entry.lease }
