/**
 * The leases that are alive, with their deadlines and the keys attached to them. Times are milliseconds of a clock that
 * the caller reads. The caller also deletes the keys of a lease that ends.
 */
import { compareKeys } from "@effect-kv/core/KeyRange"
import { DeadlineHeap, type Timed } from "./deadlineHeap.ts"

/** A lease that is alive. */
export interface LeaseState extends Timed {
  readonly id: bigint
  /** The granted time to live, in seconds. */
  readonly ttl: number
  readonly keys: Set<string>
}

/**
 * The first id that the store chooses. Like etcd's ids it exceeds a `number`, so tests find programs that convert ids.
 */
const firstChosenId = 0x4b56_0000_0000_0001n

export class Leases {
  readonly #byId = new Map<bigint, LeaseState>()
  readonly #byDeadline = new DeadlineHeap<LeaseState>()
  #nextId = firstChosenId
  /** The time when the next lease ends. */
  earliest = Number.POSITIVE_INFINITY

  get size(): number {
    return this.#byId.size
  }

  get(id: bigint): LeaseState | undefined {
    return this.#byId.get(id)
  }

  has(id: bigint): boolean {
    return this.#byId.has(id)
  }

  /** Grants a lease; its id must not be taken. */
  grant(id: bigint | undefined, ttl: number, now: number): LeaseState {
    const lease = { id: id ?? this.#chooseId(), ttl, deadline: endOf(ttl, now), keys: new Set<string>(), heapIndex: 0 }
    this.#byId.set(lease.id, lease)
    this.#byDeadline.add(lease)
    this.#update()
    return lease
  }

  keepAlive(lease: LeaseState, now: number): void {
    lease.deadline = endOf(lease.ttl, now)
    this.#byDeadline.moved(lease)
    this.#update()
  }

  /** Ends a lease and returns its keys, in order. */
  end(lease: LeaseState): Array<string> {
    this.#byId.delete(lease.id)
    this.#byDeadline.remove(lease)
    this.#update()
    return sortedKeys(lease)
  }

  /** The lease that ends first. */
  get first(): LeaseState | undefined {
    return this.#byDeadline.earliest
  }

  /** Moves a key from one lease to another; `0n` stands for none. */
  move(key: string, from: bigint, to: bigint): void {
    if (from === to) return
    if (from !== 0n) this.#byId.get(from)?.keys.delete(key)
    if (to !== 0n) this.#byId.get(to)!.keys.add(key)
  }

  /** Adds the time to every deadline. */
  shift(by: number): void {
    this.#byDeadline.shift(by)
    this.#update()
  }

  #update(): void {
    this.earliest = this.#byDeadline.earliest?.deadline ?? Number.POSITIVE_INFINITY
  }

  #chooseId(): bigint {
    while (this.#byId.has(this.#nextId)) this.#nextId++
    return this.#nextId++
  }
}

const endOf = (ttl: number, now: number): number => now + ttl * 1000

/** The keys attached to a lease, in order. */
export const sortedKeys = (lease: LeaseState): Array<string> => Array.from(lease.keys).sort(compareKeys)
