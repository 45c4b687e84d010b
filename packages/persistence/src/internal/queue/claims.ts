/**
 * Claims: one transaction claims a batch of items for a worker, each on the condition that its place was not touched.
 *
 * An attempt is counted by the claim. A transaction whose response was lost is sent again: items that the first one has
 * claimed are recognised by the worker's claim, because nothing else of this worker can have made it.
 */
import * as Compare from "@effect-kv/core/Compare"
import type { Entry } from "@effect-kv/core/Entry"
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as Effect from "effect/Effect"
import type { Candidate } from "./head.ts"
import * as keysOf from "./keys.ts"
import type { Worker } from "./worker.ts"

/** An item that a worker processes. */
export interface Claimed {
  readonly id: string
  /** The key of the claim, and its create revision: the fence of whatever ends the claim. */
  readonly key: string
  readonly token: bigint
  /** The number of this attempt, from 1 on. */
  readonly attempts: number
  readonly size: number
  /** The place in the order of the queue. */
  readonly place: bigint
  readonly isCustomId: boolean
  readonly element: unknown
}

/** How many items a transaction claims. Each takes a nested transaction of at most four operations. */
export const maxBatch = 32

/** How many bytes of items a transaction may return. */
const maxBytes = 1024 * 1024

/** Parts of which each fits into one response. */
export const partsOf = (candidates: ReadonlyArray<Candidate>): ReadonlyArray<ReadonlyArray<Candidate>> => {
  const parts: Array<Array<Candidate>> = []
  let bytes = Infinity
  for (const candidate of candidates) {
    bytes += candidate.size
    if (bytes > maxBytes) {
      parts.push([])
      bytes = candidate.size
    }
    parts.at(-1)!.push(candidate)
  }
  return parts
}

/** What a transaction claims. It must be repeated unchanged until its outcome is known. */
export interface Batch {
  readonly candidates: ReadonlyArray<Candidate>
  readonly maxAttempts: number
  readonly now: number
}

/**
 * Claims what is still there of a batch, and moves items that have no attempt left to the failed ones. `undefined` if the
 * worker is not alive, and nothing was changed.
 */
export const claim = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  keys: keysOf.Keys,
  worker: Worker,
  { candidates, maxAttempts, now }: Batch
): Effect.fn.Return<ReadonlyArray<Claimed> | undefined, KvError> {
  const response = yield* kv.txn({
    if: [worker.isAlive],
    then: candidates.map((candidate) =>
      candidate.attempts >= maxAttempts ? bury(keys, candidate, now) : claimOne(keys, worker, candidate)
    )
  })
  if (!response.succeeded) return undefined
  return candidates.flatMap((candidate, i) => {
    const nested = response.responses[i]
    if (nested?._tag !== "Txn" || candidate.attempts >= maxAttempts) return []
    const [claimed, item] = nested.responses.flatMap((part) => part._tag === "Range" ? [part.entries[0]] : [])
    return claimed === undefined ? [] : [claimedOf(candidate, claimed, item)]
  })
})

const isThere = (keys: keysOf.Keys, { createRevision, key, orphanOf }: Candidate): ReadonlyArray<Compare.Compare> => [
  Compare.createRevision(key, "=", createRevision),
  ...orphanOf === undefined ? [] : [Compare.missing(keysOf.alive(keys, orphanOf))]
]

const claimOne = (keys: keysOf.Keys, worker: Worker, candidate: Candidate) => {
  const { attempts, id, key, place, size } = candidate
  const ours = keysOf.claim(keys, worker.id, id)
  return Op.txn({
    if: isThere(keys, candidate),
    then: [
      Op.delete(key),
      Op.put(ours, keysOf.encodeMarker({ attempts: attempts + 1, size, place })),
      Op.get(ours),
      Op.get(keysOf.item(keys, id))
    ],
    else: [Op.get(ours), Op.get(keysOf.item(keys, id))]
  })
}

/** A worker died during the last attempt, or the queue's `maxAttempts` was lowered. */
const bury = (keys: keysOf.Keys, candidate: Candidate, now: number) =>
  Op.txn({
    if: isThere(keys, candidate),
    then: [
      Op.delete(candidate.key),
      Op.put(
        keysOf.ended(keys, "failed", now, candidate.id),
        JSON.stringify({
          attempts: candidate.attempts,
          error: candidate.orphanOf === undefined
            ? "No attempt is left"
            : "The worker of the last attempt has died or lost its session"
        })
      )
    ]
  })

/** If another program has damaged the item, its element is `undefined`: it cannot be decoded, and becomes a failed one. */
const claimedOf = (candidate: Candidate, claimed: Entry, item: Entry | undefined): Claimed => ({
  id: candidate.id,
  key: claimed.key,
  token: claimed.createRevision,
  attempts: candidate.attempts + 1,
  size: candidate.size,
  place: candidate.place,
  ...keysOf.decodeItem(item?.lossyText ?? "")
})
