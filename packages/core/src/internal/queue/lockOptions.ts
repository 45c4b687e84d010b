/**
 * The kind of a lock as a hidden option: only recipes of this library set it.
 */
import type { LockKind } from "../values/lockKind.ts"

const kind = Symbol("effect-kv/LockKind")

interface WithKind {
  readonly [kind]?: LockKind
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

/** What the lock is to its user. */
export const kindOf = (options: object | undefined): LockKind => (options as WithKind | undefined)?.[kind] ?? "lock"
