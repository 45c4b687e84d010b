/**
 * Temporary keys as values: the types that the `TempKey` module and its implementation share.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import type { Value } from "../../values/Entry.ts"
import type * as KvError from "../../values/KvError.ts"
import type { TempKeyLost, TempKeyTaken } from "./tempKeyErrors.ts"

/**
 * Options of a temporary key.
 *
 * @since 0.1.0
 */
export interface Options {
  /** The key's value. Default: a token that no other temporary key has. */
  readonly value?: Value | undefined
  /** How long the key may outlive a process that crashes. Default: 10 seconds. */
  readonly ttl?: Duration.Input | undefined
  /**
   * What happens when the lease is lost or the key is deleted. Default: `recreate`.
   *
   * - `recreate`: the key is recreated as soon as the store can be reached and the key does not exist.
   * - `fail`: `lost` fails, and the key stays deleted.
   */
  readonly onLost?: "recreate" | "fail" | undefined
  /**
   * What happens when another client has the key: when it is first made, when it is made again, or after that client
   * wrote to it. Default: `fail`.
   *
   * - `fail`: creating it, or later `lost`, fails with `TempKeyTaken`.
   * - `wait`: waits until the key is deleted or its lease ends, and creates it then.
   *
   * **When to use**
   *
   * A process that was killed leaves its key until its lease ends. Use `wait`, within an `Effect.timeout`, if the next
   * process creates the same key.
   */
  readonly onTaken?: "fail" | "wait" | undefined
}

/**
 * The state of a temporary key. `Held`: it exists, attached to this lease, since this revision. `Lost`: it is gone.
 * `Taken`: another client has it.
 *
 * @since 0.1.0
 */
export type Status =
  | { readonly _tag: "Held"; readonly lease: bigint; readonly revision: bigint }
  | { readonly _tag: "Lost"; readonly reason: string }
  | { readonly _tag: "Taken"; readonly lease: Option.Option<bigint> }

/**
 * A key that exists as long as its scope.
 *
 * @since 0.1.0
 */
export interface TempKey {
  /** The key. */
  readonly key: string
  /** The lease that it is attached to; `none` while the key is lost or taken. */
  readonly lease: Effect.Effect<Option.Option<bigint>>
  /** The revision of the last write to it that this client knows of; `none` while the key is lost or taken. */
  readonly revision: Effect.Effect<Option.Option<bigint>>
  /**
   * Writes a value, which a recreated key also has. Returns the revision of the write.
   *
   * **Details**
   *
   * The key keeps its lease. The write is conditional on the key being ours: otherwise it fails with `TempKeyLost` or
   * `TempKeyTaken` and changes nothing. Values set by several fibers are written one after the other. Under a lock the
   * write is fenced like any other.
   */
  readonly set: (value: Value) => Effect.Effect<bigint, KvError.KvError | TempKeyLost | TempKeyTaken>
  /** The state of the key now, then each change of it. Ends when the key is gone permanently. */
  readonly status: Stream.Stream<Status>
  /**
   * Waits until the key is gone permanently, then fails.
   *
   * The key is gone for good if it was lost and `onLost` is `"fail"`, if another client has it and `onTaken` is not
   * `"wait"`, if the store rejects its recreation, and if the scope or the client is closed.
   */
  readonly lost: Effect.Effect<never, TempKeyLost | TempKeyTaken>
}
