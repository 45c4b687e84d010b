/**
 * The kind of a lock as a hidden option: only recipes of this library set it.
 */
import type { LockKind } from "../values/lockKind.ts"

const kind = Symbol("effect-kv/LockKind")
const place = Symbol("effect-kv/LockIsPlace")

interface WithKind {
  readonly [kind]?: LockKind
  readonly [place]?: boolean
}

/** The same options for the leadership of an election. */
export const asLeadership = <Options extends object>(options: Options | undefined): Options & WithKind => ({
  ...options as Options,
  [kind]: "leadership"
})

/** The same options for permits of a semaphore. */
export const asPermits = <Options extends object>(options: Options | undefined): Options & WithKind => ({
  ...options as Options,
  [kind]: "semaphore"
})

/**
 * The same options for a place in the queue for a slot. To its user it is not a lock: the metrics and spans are those of
 * the slot, and messages name a slot.
 */
export const asPlaceForSlot = <Options extends object>(options: Options): Options & WithKind => ({
  ...options,
  [kind]: "slot",
  [place]: true
})

/** Whether the lock is only a place in a queue. */
export const isPlace = (options: object | undefined): boolean => (options as WithKind | undefined)?.[place] === true

/** What the lock is to its user. */
export const kindOf = (options: object | undefined): LockKind => (options as WithKind | undefined)?.[kind] ?? "lock"
