/**
 * `Kv.modify`: reads a key, and writes what a function makes of it if no other client wrote in between; otherwise tries
 * again.
 *
 * A client runs one modify of a key at a time, because n concurrent ones would need n * n / 2 transactions. Modifies of
 * different clients still race. The next modify starts from what the previous one wrote, which saves the read.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import * as Compare from "../../values/Compare.ts"
import type { Entry } from "../../values/Entry.ts"
import type * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import { type Turn, Turns } from "./turns.ts"

/** The entry that a modify replaces. */
interface Current {
  readonly text: Option.Option<string>
  /** `0n` if the key does not exist. */
  readonly modRevision: bigint
  readonly lease: Option.Option<bigint>
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

export const make = (backend: KvBackend, keySpace: KeySpace) => {
  const turns = turnsOf(keySpace)
  const toCurrent = (entry: Entry | undefined): Effect.Effect<Current, KvError.KvError> =>
    entry === undefined
      ? Effect.succeed({ text: Option.none(), modRevision: 0n, lease: Option.none() })
      : Effect.map(entry.text, (text) => ({
        text: Option.some(text),
        modRevision: entry.modRevision,
        lease: entry.lease
      }))

  const read = (key: string): Effect.Effect<Current, KvError.KvError> =>
    Effect.flatMap(execute(backend, Op.get(key)), (response) => toCurrent(response.entries[0]))

  const attempt = Effect.fnUntraced(function*(
    turn: Turn<Written>,
    key: string,
    f: (current: Option.Option<string>) => string
  ): Effect.fn.Return<string, KvError.KvError> {
    const note = turn.take()
    let current = note?.backend === backend ? note.current : yield* read(key)
    while (true) {
      const text = f(current.text)
      const response = yield* execute(
        backend,
        Op.txn({
          if: [Compare.modRevision(key, "=", current.modRevision)],
          then: [Op.put(key, text, { lease: current.lease })],
          else: [Op.get(key)]
        })
      )
      if (response.succeeded) {
        turn.leave({ current: { ...current, text: Option.some(text), modRevision: response.revision }, backend })
        return text
      }
      current = yield* toCurrent(response.responses[0].entries[0])
    }
  })

  return (key: string, f: (current: Option.Option<string>) => string): Effect.Effect<string, KvError.KvError> =>
    turns.run(keySpace.prefix + key, (turn) => attempt(turn, key, f))
}
