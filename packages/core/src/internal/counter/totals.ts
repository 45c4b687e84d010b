/**
 * The totals of a counter in the store: one key for each participant, and one for those that have ended.
 *
 *     NAME/counter/folded       the sum of the participants that have ended
 *     NAME/counter/total/ID     the total of a participant
 *     NAME/counter/live/ID      exists as long as the participant does: a temporary key
 *
 * Nothing is directly under `NAME/`: a lock of that name takes all keys there for contenders.
 *
 * Folding moves totals into the sum of those that have ended, in one transaction, so the sum of all stays the same.
 */
import * as Effect from "effect/Effect"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import * as Compare from "../../values/Compare.ts"
import type { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import * as integers from "../values/integers.ts"

/** The keys of a counter. */
export interface Names {
  readonly folded: string
  readonly totals: string
  readonly lives: string
}

export const namesOf = (name: string): Names => ({
  folded: `${name}/counter/folded`,
  totals: `${name}/counter/total/`,
  lives: `${name}/counter/live/`
})

/** The sum of all totals, at one revision. */
export const sum = Effect.fnUntraced(function*(
  backend: KvBackend,
  names: Names
): Effect.fn.Return<bigint, KvError.KvError> {
  const [folded, totals] = yield* read(backend, Op.get(names.folded), Op.range(KeyRange.prefix(names.totals)))
  const parts = yield* Effect.forEach([...folded, ...childrenOf(names.totals, totals)], totalOf)
  return parts.reduce((sum, part) => sum + part, 0n)
})

/** A total that is to be folded. */
interface Ended {
  readonly entry: Entry
  /** The key that must be missing; `undefined` if the participant folds itself. */
  readonly live: string | undefined
}

/** Folds the totals of participants that no longer live. */
export const foldDead = Effect.fnUntraced(function*(
  backend: KvBackend,
  names: Names
): Effect.fn.Return<void, KvError.KvError> {
  const [totals, lives] = yield* read(
    backend,
    Op.range(KeyRange.prefix(names.totals)),
    Op.range(KeyRange.prefix(names.lives), { keysOnly: true })
  )
  const living = new Set(lives.map(({ key }) => key))
  const ended = childrenOf(names.totals, totals).flatMap((entry): ReadonlyArray<Ended> => {
    const live = names.lives + entry.key.slice(names.totals.length)
    return living.has(live) ? [] : [{ entry, live }]
  }).sort((a, b) => a.entry.createRevision < b.entry.createRevision ? -1 : 1)
  for (let i = 0; i < ended.length; i += foldedAtOnce) {
    yield* fold(backend, names, ended.slice(i, i + foldedAtOnce))
  }
})

/** Folds the total of a participant that ends. */
export const foldOwn = Effect.fnUntraced(function*(
  backend: KvBackend,
  names: Names,
  key: string
): Effect.fn.Return<void, KvError.KvError> {
  const [entries] = yield* read(backend, Op.get(key))
  for (const entry of entries) yield* fold(backend, names, [{ entry, live: undefined }])
})

/** Two conditions for each, and one for the sum, must fit into a transaction. */
const foldedAtOnce = 50

const attempts = 3

const fold = Effect.fnUntraced(function*(
  backend: KvBackend,
  names: Names,
  ended: ReadonlyArray<Ended>
): Effect.fn.Return<void, KvError.KvError> {
  const parts = yield* Effect.forEach(ended, ({ entry }) => totalOf(entry))
  for (let attempt = 0; attempt < attempts; attempt++) {
    const [before] = yield* read(backend, Op.get(names.folded))
    const folded = yield* Effect.forEach(before, totalOf)
    const response = yield* execute(
      backend,
      Op.txn({
        if: [
          Compare.modRevision(names.folded, "=", before[0]?.modRevision ?? 0n),
          ...ended.flatMap(({ entry, live }) => [
            Compare.modRevision(entry.key, "=", entry.modRevision),
            ...(live === undefined ? [] : [Compare.missing(live)])
          ])
        ],
        then: [
          Op.put(names.folded, `${[...folded, ...parts].reduce((sum, part) => sum + part, 0n)}`),
          ...ended.map(({ entry }) => Op.delete(entry.key))
        ]
      })
    )
    if (response.succeeded) return
  }
})

/** The entries that the operations read, at one revision. */
const read = <const Ops extends ReadonlyArray<Op.Range>>(
  backend: KvBackend,
  ...ops: Ops
): Effect.Effect<{ readonly [I in keyof Ops]: ReadonlyArray<Entry> }, KvError.KvError> =>
  Effect.map(
    execute(backend, Op.txn({ then: ops })),
    (response) =>
      (response.responses as ReadonlyArray<Op.RangeResponse>).map(({ entries }) => entries) as {
        readonly [I in keyof Ops]: ReadonlyArray<Entry>
      }
  )

/** Without the keys of counters whose names extend this one's. */
const childrenOf = (prefix: string, entries: ReadonlyArray<Entry>): ReadonlyArray<Entry> =>
  entries.filter(({ key }) => !key.slice(prefix.length).includes("/"))

/** The number in an entry. */
export const totalOf = (entry: Entry): Effect.Effect<bigint, KvError.KvError> => {
  const total = integers.parse(entry.lossyText)
  return total !== undefined ? Effect.succeed(total) : KvError.fail(
    new KvError.InvalidRequest({
      message: `${JSON.stringify(entry.key)} does not hold the total of a counter, which is an integer; another ` +
        `program has written it. Give the counter another name, or repair the key`
    }),
    { key: entry.key }
  )
}
