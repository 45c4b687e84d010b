/**
 * Keys that live as long as a scope: to register a worker, to count the copies of a program, to publish an address.
 *
 * A temporary key is deleted when its scope closes, and by its lease within its time to live when the process dies. If
 * its lease is lost or another client deletes it, it is made again. A temporary key never overwrites a key of another
 * client.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import type * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { TempKeyLost, TempKeyTaken } from "../internal/tempKey/tempKeyErrors.ts"
import { Kv } from "../service/Kv.ts"
import type { Value } from "../values/Entry.ts"
import type * as KvError from "../values/KvError.ts"

export { TempKeyLost, TempKeyTaken }

/** Options of a temporary key. */
export interface Options {
  /** The key's value. Default: a token that no other temporary key has. */
  readonly value?: Value | undefined
  /** How long the key may outlive a process that crashes. Default: 10 seconds. */
  readonly ttl?: Duration.Input | undefined
  /**
   * What happens when the lease is lost or the key is deleted. `recreate`: the key is made again as soon as the store can
   * be reached and the key does not exist. `fail`: `lost` fails, and the key stays gone. Default: `recreate`.
   */
  readonly onLost?: "recreate" | "fail" | undefined
  /**
   * What happens when another client has the key: when it is made, when it is to be made again, or because that client
   * wrote to it. `fail`: making it, or later `lost`, fails with `TempKeyTaken`. `wait`: waits until the key is deleted or
   * its lease ends, and makes it then. Default: `fail`.
   *
   * A process that was killed leaves its key until its lease ends. Use `wait`, within an `Effect.timeout`, when the next
   * process makes the same key.
   */
  readonly onTaken?: "fail" | "wait" | undefined
}

/**
 * The state of a temporary key. `Held`: it exists, attached to this lease, since this revision. `Lost`: it is gone.
 * `Taken`: another client has it.
 */
export type Status =
  | { readonly _tag: "Held"; readonly lease: bigint; readonly revision: bigint }
  | { readonly _tag: "Lost"; readonly how: string }
  | { readonly _tag: "Taken"; readonly lease: Option.Option<bigint> }

/** A key that lives as long as its scope. */
export interface TempKey {
  readonly key: string
  /** The lease it is attached to; `none` while the key is lost or taken. */
  readonly lease: Effect.Effect<Option.Option<bigint>>
  /** The revision of the last write to it that this client knows of; `none` while the key is lost or taken. */
  readonly revision: Effect.Effect<Option.Option<bigint>>
  /**
   * Writes a value, which the key also has when it is made again. Returns the revision of the write.
   *
   * **Details**
   *
   * The key keeps its lease. The write is conditional on the key being ours: otherwise it fails with `TempKeyLost` or
   * `TempKeyTaken` and changes nothing. Values set by several fibers are written one after the other. Inside a lock the
   * write is fenced like any other.
   */
  readonly set: (value: Value) => Effect.Effect<bigint, KvError.KvError | TempKeyLost | TempKeyTaken>
  /** The state of the key now, then each change. Ends when the key is gone for good. */
  readonly status: Stream.Stream<Status>
  /**
   * Waits until the key is gone for good, then fails: with `onLost: "fail"`, when another client has it and `onTaken` is
   * not `"wait"`, when making it again is rejected, or when the scope or the client is closed.
   */
  readonly lost: Effect.Effect<never, TempKeyLost | TempKeyTaken>
}

/** Makes a temporary key, which exists when this returns and until the scope closes. */
export const make = (
  key: string,
  options?: Options
): Effect.Effect<TempKey, KvError.KvError | TempKeyTaken, Kv | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) => kv.tempKey(key, options))

/** Runs the effect while the key exists, and interrupts it when the key is gone for good: see {@link TempKey.lost}. */
export const withTempKey: {
  (key: string, options?: Options): <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | KvError.KvError | TempKeyLost | TempKeyTaken, R | Kv>
  <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    key: string,
    options?: Options
  ): Effect.Effect<A, E | KvError.KvError | TempKeyLost | TempKeyTaken, R | Kv>
} = dual(
  (args) => Effect.isEffect(args[0]),
  <A, E, R>(effect: Effect.Effect<A, E, R>, key: string, options?: Options) =>
    Effect.scopedWith((scope) =>
      Effect.flatMap(
        Scope.provide(make(key, options), scope),
        (tempKey) => Effect.raceFirst(effect, tempKey.lost)
      )
    )
)
