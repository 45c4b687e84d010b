/**
 * `Kv.modify`: reads a key, and writes what a function makes of it if nobody wrote in between, until that succeeds.
 *
 * Of one client, one modify of a key runs at a time: n of them that raced each other would be n * n / 2 transactions. Other
 * clients do race. The next in line begins with what the one before wrote, and spares the read.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import * as Compare from "../../values/Compare.ts"
import type { Entry } from "../../values/Entry.ts"
import type * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import { type Turn, Turns } from "./turns.ts"

/** What a modify goes by. */
interface Current {
  readonly text: Option.Option<string>
  /** `0n` where there is no key. */
  readonly modRevision: bigint
  readonly lease: Option.Option<bigint>
}

/** What was written, and through which view: a view may change values on their way, so another must read for itself. */
interface Written {
  readonly current: Current
  readonly view: KvBackend
}

const lines = new WeakMap<object, Turns<Written>>()

/** Whose keys a view sees, and what they begin with there: views of one client share its lines. */
export interface KeySpace {
  readonly client: object
  readonly prefix: string
}

const turnsOf = ({ client }: KeySpace): Turns<Written> => {
  const turns = lines.get(client) ?? new Turns<Written>()
  lines.set(client, turns)
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
    let current = note?.view === backend ? note.current : yield* read(key)
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
        turn.leave({ current: { ...current, text: Option.some(text), modRevision: response.revision }, view: backend })
        return text
      }
      current = yield* toCurrent(response.responses[0].entries[0])
    }
  })

  return (key: string, f: (current: Option.Option<string>) => string): Effect.Effect<string, KvError.KvError> =>
    turns.run(keySpace.prefix + key, (turn) => attempt(turn, key, f))
}
