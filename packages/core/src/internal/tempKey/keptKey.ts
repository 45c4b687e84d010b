/**
 * The state of a temporary key that this client keeps.
 */
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { KvBackend } from "../../backend/KvBackend.ts"
import type { Entry, Value } from "../../values/Entry.ts"
import type * as KvError from "../../values/KvError.ts"
import type * as heldKeys from "../kv/heldKeys.ts"
import type { SessionPool } from "../session/sessionPool.ts"
import type { SharedSession } from "../session/sharedSession.ts"
import type { Options } from "./model.ts"

/** The backends of a temporary key. */
export interface Backends {
  /** For the writes that make the key and set its value: guarded as the caller's own writes are. */
  readonly make: KvBackend
  /** For everything else. Never fenced: removing the key must not depend on a lock. */
  readonly unfenced: KvBackend
  /** The prefix of the keys at the client's root. */
  readonly prefix: string
}

/** A key that is kept through everything that can pass, with a value that may change while it does not exist. */
export interface Persistence {
  /** The value of a key that is made now. Called once for each attempt. */
  readonly valueNow: () => Value
  /** Whether to try again after the store has rejected to make the key again with this error. */
  readonly isRepeated: (error: KvError.KvError) => boolean
}

/** A temporary key and what this client knows of it. */
export interface Kept {
  readonly backends: Backends
  readonly sessions: SessionPool
  readonly key: string
  /** The key at the client's root: another namespace of the client may have another name for it. */
  readonly rootKey: string
  readonly options: Options | undefined
  /** The value with which the key is made again; `undefined` for a token. */
  value: Value | undefined
  readonly persistence: Persistence | undefined
  readonly claim: heldKeys.Claim
  /** The key in the store, while this client has it. */
  held: Held | undefined
  /** The leases that this client may have put the key with. A lost lease may still exist in the store, with the key. */
  readonly own: Set<bigint>
}

/** The key as this client last put it. */
export interface Held {
  readonly _tag: "Held"
  readonly scope: Scope.Closeable
  readonly session: SharedSession
  revision: bigint
  /** Whether the store was replaced since. Then `revision` belongs to the old store and is meaningless. */
  isReplaced: boolean
}

/** The condition did not hold: another client has the key, or it does not exist, at this revision of the store. */
export interface Taken {
  readonly _tag: "Taken"
  readonly exists: boolean
  readonly lease: Option.Option<bigint>
  readonly revision: bigint
}

/** How a held key was lost. */
export type Loss = { readonly _tag: "Lost"; readonly reason: string } | Taken

export const takenReason = "another client has the key"
export const deletedReason = "it was deleted, or its lease ended"

export const hex = (lease: bigint): string => lease.toString(16)

/** Notes a value that was written to the key, unless a later one is known. */
export const note = (kept: Kept, held: Held, revision: bigint, value: Value): void => {
  if (revision <= held.revision && !held.isReplaced) return
  held.isReplaced = false
  held.revision = revision
  kept.value = value
}

export const takenBy = (entry: Entry | undefined, revision: bigint): Taken => ({
  _tag: "Taken",
  exists: entry !== undefined,
  lease: entry === undefined ? Option.none() : entry.lease,
  revision
})

export const isOn = (entry: Entry, lease: bigint): boolean => Option.contains(entry.lease, lease)
