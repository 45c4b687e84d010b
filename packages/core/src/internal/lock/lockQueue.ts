/**
 * The queue of a lock: a contender is admitted when no other is ahead. Key layout and algorithm are those of Go's
 * `concurrency.Mutex` and `concurrency.Election`, and so of `etcdctl lock` and `etcdctl elect`.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import * as Compare from "../../values/Compare.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import type * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import * as contenders from "../queue/contenders.ts"
import * as predecessor from "../queue/predecessor.ts"
import type { Queue } from "../queue/rule.ts"

export const prefixOf = (name: string): string => `${name}/`

export const queueOf = (name: string, description: string | undefined): Queue =>
  predecessor.queue({
    name,
    prefix: prefixOf(name),
    value: description ?? "",
    ahead: [prefixOf(name)],
    isMovable: true,
    id: name
  })

/** A lock and the key to contend for it with. */
export interface Candidate {
  readonly name: string
  readonly key: string
}

/**
 * Enters all the queues if none of them holds a contender, in one transaction; `undefined` if one does. A failed
 * attempt leaves nothing and delays no other client.
 *
 * A condition on a prefix also counts deeper keys, which are not contenders. If such a key exists, the queues are read.
 * If they hold no contender, another transaction enters unless a key was created since.
 */
export const enterIfFree = (description: string | undefined) =>
  Effect.fnUntraced(function*(
    backend: KvBackend,
    candidates: NonEmptyReadonlyArray<Candidate>,
    lease: bigint
  ): Effect.fn.Return<{ readonly createRevision: bigint } | undefined, KvError.KvError> {
    const prefixes = candidates.map(({ name }) => prefixOf(name))
    const queues = prefixes.map(KeyRange.prefix)
    const isTaken = (responses: ReadonlyArray<Op.RangeResponse>) =>
      responses.some(({ entries }, i) => entries.some((entry) => contenders.isContender(prefixes[i]!, entry)))
    let emptyUpTo = 0n
    while (true) {
      const response = yield* execute(
        backend,
        Op.txn({
          if: queues.map((queue) => Compare.createdBefore(queue, emptyUpTo + 1n)),
          then: candidates.map(({ key }) => Op.put(key, description ?? "", { lease })),
          else: prefixes.map((prefix) => contenders.youngest(prefix, undefined, 1))
        })
      )
      if (response.succeeded) return { createRevision: response.revision }
      if (isTaken(response.responses)) return undefined
      const reads = yield* Effect.forEach(
        queues,
        (queue) => execute(backend, Op.range(queue, { keysOnly: true })),
        { concurrency: "unbounded" }
      )
      if (isTaken(reads)) return undefined
      // The reads are at different revisions. The next transaction finds a key created after the oldest of them.
      emptyUpTo = reads.reduce((least, { revision }) => revision < least ? revision : least, reads[0]!.revision)
    }
  })
