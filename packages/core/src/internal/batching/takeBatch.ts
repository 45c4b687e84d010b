/**
 * Which of those who wait leave together.
 */
import type { Member } from "./batchMember.ts"
import type { Footprint } from "./footprint.ts"

/** What a transaction may hold: at least one of the members, whichever it is. */
export interface Bounds {
  readonly maxOps: number
  readonly maxBytes: number
  /** Apart from `maxOps`, because what is nested does not count. */
  readonly maxAnswers: number
}

/**
 * Takes from the front of the line what fits into one transaction: within the bounds, and no two that touch one key, unless
 * both only read it. What does not fit stays in line, in its order.
 */
export const takeBatch = <A extends Pick<Member, "footprint" | "state">>(
  line: Array<A>,
  bounds: Bounds
): Array<A> => {
  const batch: Array<A> = []
  const stay: Array<A> = []
  const touched = new Touched()
  let bytes = 0
  let room = 0
  let i = 0
  for (; i < line.length; i++) {
    const member = line[i]!
    if (member.state === "Gone") continue
    const { footprint } = member
    // By etcd's counting a transaction of n operations leaves maxOps - n to each that is nested in it.
    if (batch.length + 1 + room > bounds.maxOps || batch.length + 1 > bounds.maxAnswers) break
    if (batch.length > 0 && bytes + footprint.bytes > bounds.maxBytes) break
    if (batch.length + 1 + footprint.room > bounds.maxOps || !touched.admits(footprint)) {
      stay.push(member)
      if (stay.length >= lookAhead) {
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
  line.splice(0, i, ...stay)
  return batch
}

/** How many that do not fit are passed over: where all want one key, a batch must not cost the length of the line. */
const lookAhead = 256

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
