/**
 * One run of `Kv.atomically`: what it read, at which revision, and what it will write.
 *
 * The first read decides the revision, and later reads are made at it. So a run sees one state of the store, however
 * many requests it takes.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Semaphore from "effect/Semaphore"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import type { Transaction } from "../../service/KvService.ts"
import * as Compare from "../../values/Compare.ts"
import * as Entry from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"

/** The most elements of a transaction, by etcd's default. */
export const maxOps = 128

/** What is known of the store at one revision, by ranges. */
export interface Snapshot {
  readonly revision: bigint
  readonly reads: ReadonlyMap<string, Read>
}

interface Read {
  readonly range: KeyRange.KeyRange
  readonly entries: ReadonlyArray<Entry.Entry>
}

/** A run. */
export interface Run {
  readonly transaction: Transaction
  /** Whether it needs a revision that is compacted by now. */
  readonly isStale: () => boolean
  /** Ends the run: its transaction can no longer be used. */
  readonly end: () => void
  /** Its commit; `undefined` if it wrote nothing. */
  readonly commit: () => Commit | undefined
}

export interface Commit {
  readonly conditions: ReadonlyArray<Compare.Compare>
  readonly writes: ReadonlyArray<Op.Put | Op.Delete>
  readonly reads: ReadonlyArray<readonly [id: string, Op.Range]>
}

/** The snapshot that the responses to a commit's reads show. */
export const snapshotOf = (
  { reads }: Commit,
  revision: bigint,
  responses: ReadonlyArray<Op.RangeResponse>
): Snapshot => ({
  revision,
  reads: new Map(reads.map(([id, { range }], i) => [id, { range, entries: responses[i]!.entries }]))
})

export const make = (backend: KvBackend, snapshot: Snapshot | undefined): Run => {
  let revision = snapshot?.revision
  let isStale = false
  let hasEnded = false
  const reads = new Map<string, Read>()
  const writes = new Map<string, Op.Put | Op.Delete>()
  // Of several concurrent reads, the first decides the revision.
  const reading = Semaphore.makeUnsafe(1)

  const whileRunning = <A>(f: () => Effect.Effect<A, KvError.KvError>): Effect.Effect<A, KvError.KvError> =>
    Effect.suspend(() => hasEnded ? ended : f())

  const request = Effect.fnUntraced(function*(
    id: string,
    range: KeyRange.KeyRange
  ): Effect.fn.Return<Read, KvError.KvError> {
    const known = reads.get(id) ?? snapshot?.reads.get(id)
    if (known !== undefined) {
      reads.set(id, known)
      return known
    }
    const response = yield* execute(backend, readOf(range, revision)).pipe(
      Effect.tapError(({ reason }) =>
        Effect.sync(() => {
          if (reason._tag === "Compacted") isStale = true
        })
      )
    )
    revision ??= response.revision
    const made: Read = { range, entries: response.entries }
    reads.set(id, made)
    return made
  })

  /** The entries of a range as they were at the run's revision. */
  const read = (range: KeyRange.KeyRange): Effect.Effect<Read, KvError.KvError> => {
    const id = JSON.stringify(range)
    return Semaphore.withPermit(reading, Effect.suspend(() => request(id, range)))
  }

  const getEntry: Transaction["getEntry"] = (key) =>
    whileRunning(() => {
      const write = writes.get(key)
      return write !== undefined
        ? Effect.succeed(Option.fromUndefinedOr(entryOf(write)))
        : Effect.map(read(KeyRange.key(key)), ({ entries }) => Option.fromUndefinedOr(entries[0]))
    })

  const list: Transaction["list"] = (range) =>
    whileRunning(() =>
      Effect.flatMap(read(range), ({ entries }) => {
        if (entries.length >= maxOps) return tooManyEntries(range)
        const byKey = new Map(entries.map((entry) => [entry.key, entry]))
        for (const [key, write] of writes) {
          if (!KeyRange.contains(range, key)) continue
          const entry = entryOf(write)
          if (entry === undefined) byKey.delete(key)
          else byKey.set(key, entry)
        }
        return Effect.succeed([...byKey.values()].sort((a, b) => KeyRange.compareKeys(a.key, b.key)))
      })
    )

  return {
    transaction: {
      getEntry,
      get: (key) =>
        Effect.flatMap(
          getEntry(key),
          Option.match({
            onNone: () => Effect.succeed(Option.none()),
            onSome: (entry) => Effect.map(entry.text, Option.some)
          })
        ),
      list,
      put: (key, value, options) =>
        whileRunning(() => {
          // Before anything else runs: bytes may be reused.
          const put = Op.put(key, value)
          const lease = options?.lease
          return Effect.map(
            lease === "keep"
              ? Effect.map(getEntry(key), (entry) => Option.flatMap(entry, ({ lease }) => lease))
              : Effect.succeed(lease),
            (lease) => void writes.set(key, Op.put(key, put.value, { lease }))
          )
        }),
      delete: (key) => whileRunning(() => Effect.sync(() => void writes.set(key, Op.delete(key))))
    },
    isStale: () => isStale,
    end: () => {
      hasEnded = true
    },
    commit: () =>
      writes.size === 0 ? undefined : {
        conditions: conditionsOf(reads.values(), revision),
        writes: [...writes.values()],
        reads: [...reads].map(([id, { range }]) => [id, readOf(range, undefined)])
      }
  }
}

/** One entry more than a commit could compare tells that there are too many. */
const readOf = (range: KeyRange.KeyRange, revision: bigint | undefined): Op.Range =>
  Op.range(range, { revision, limit: range._tag === "Key" ? undefined : maxOps })

/**
 * The conditions that hold exactly as long as the reads would return the same.
 *
 * The store can compare each key of a range, but not their number. So a key that appears is found by its create
 * revision, and one that changes or disappears by a condition of its own.
 */
const conditionsOf = (reads: Iterable<Read>, revision: bigint | undefined): ReadonlyArray<Compare.Compare> => {
  const ranges: Array<Compare.Compare> = []
  const modRevisions = new Map<string, bigint>()
  for (const { entries, range } of reads) {
    if (range._tag === "Key") modRevisions.set(range.key, 0n)
    else ranges.push(Compare.createdBefore(range, (revision ?? 0n) + 1n))
    for (const entry of entries) modRevisions.set(entry.key, entry.modRevision)
  }
  return [...ranges, ...[...modRevisions].map(([key, modRevision]) => Compare.modRevision(key, "=", modRevision))]
}

/** The entry that a write will make; `undefined` for a delete. */
const entryOf = (write: Op.Put | Op.Delete): Entry.Entry | undefined =>
  write._tag === "Delete" ? undefined : Entry.make({
    key: write.key,
    value: write.value,
    createRevision: 0n,
    modRevision: 0n,
    version: 0,
    lease: Option.fromUndefinedOr(write.lease)
  })

const ended: Effect.Effect<never, KvError.KvError> = KvError.fail(
  new KvError.InvalidRequest({
    message: "the function of atomically has ended, and with it its transaction; use it only inside the function"
  })
)

const tooManyEntries = (range: KeyRange.KeyRange): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(
    new KvError.InvalidRequest({
      message:
        `the range ${JSON.stringify(range)} has ${maxOps} keys or more, and a transaction compares each of them; ` +
        `list a smaller range, or keep what you need of it under one key`
    })
  )
