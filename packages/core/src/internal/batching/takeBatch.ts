/**
 * The choice of the queued operations that form the next batch.
 */
import type { BatchMember } from "./batchMember.ts"
import type { Footprint } from "./footprint.ts"

/** Limits of one batch. Every batch holds at least one member, even if that member alone exceeds a limit. */
export interface BatchBounds {
  readonly maxOps: number
  readonly maxBytes: number
  /** Separate from `maxOps`, because nested operations do not count here. */
  readonly maxResponses: number
}

/**
 * Takes operations from the front of the queue that fit into one transaction: within the bounds, and no two on the same
 * key unless both only read it. Operations that do not fit skipped in the queue, in their order.
 */
export const takeBatch = <A extends Pick<BatchMember, "footprint" | "state">>(
  queue: Array<A>,
  bounds: BatchBounds
): Array<A> => {
  const batch: Array<A> = []
  const skipped: Array<A> = []
  const touched = new Touched()
  let bytes = 0
  let room = 0
  let i = 0
  for (; i < queue.length; i++) {
    const member = queue[i]!
    if (member.state === "Gone") continue
    const { footprint } = member
    // etcd counts so: a transaction with n operations leaves maxOps - n to each transaction nested in it.
    if (batch.length + 1 + room > bounds.maxOps || batch.length + 1 > bounds.maxResponses) break
    if (batch.length > 0 && bytes + footprint.bytes > bounds.maxBytes) break
    if (batch.length + 1 + footprint.room > bounds.maxOps || !touched.admits(footprint)) {
      skipped.push(member)
      if (skipped.length >= maxSkipped) {
        i++
        break
      }
      continue
    }
    batch.push(member)
    touched.add(footprint)
    bytes += footprint.bytes
    room = Math.max(room, footprint.room)
  }
  queue.splice(0, i, ...skipped)
  return batch
}

/**
 * How many operations that do not fit are skipped. Without a limit, a long queue of operations on one key would be
 * scanned to its end for every batch.
 */
const maxSkipped = 256

/** The keys that the operations of a batch touch. */
class Touched {
  readonly #reads = new Set<string>()
  readonly #writes = new Set<string>()

  admits({ reads, writes }: Footprint): boolean {
    for (const key of writes) if (this.#writes.has(key) || this.#reads.has(key)) return false
    for (const key of reads) if (this.#writes.has(key)) return false
    return true
  }

  add({ reads, writes }: Footprint): void {
    for (const key of writes) this.#writes.add(key)
    for (const key of reads) this.#reads.add(key)
  }
}
