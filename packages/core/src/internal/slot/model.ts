/**
 * Slots as values: the types that the `Slot` module and its implementation share.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as KvError from "../../values/KvError.ts"
import type { LockLost } from "../../values/LockError.ts"
import * as json from "../values/json.ts"

/**
 * All slots are taken or cooling down. The attempt leaves nothing in the store.
 *
 * @since 0.1.0
 */
export class SlotsTaken extends Schema.Error<SlotsTaken>("@effect-kv/core/Slot/SlotsTaken")({
  _tag: Schema.tag("SlotsTaken"),
  /** The name of the slots. Not called `name`, which is the name of the error. */
  slots: Schema.String,
  /** How many there are. */
  size: Schema.Int,
  /** Why the store could not be reached when the time ran out; `none` if other clients held the slots. */
  storeFailure: Schema.Option(KvError.Reason).pipe(
    Schema.withConstructorDefault(Effect.succeed(Option.none<KvError.Reason>()))
  )
}) {
  readonly isRetryable: boolean = true
  readonly outcome: "NotApplied" | "Unknown" = "NotApplied"
  override get message(): string {
    const slots = `${this.size === 1 ? "the only slot" : `one of ${this.size} slots`} of ${JSON.stringify(this.slots)}`
    if (Option.isSome(this.storeFailure)) {
      return `${slots} could not be acquired in time; the store could not be reached: ${this.storeFailure.value.message}`
    }
    return `${this.size === 1 ? "the only slot" : `all ${this.size} slots`} of ${JSON.stringify(this.slots)} ${
      this.size === 1 ? "is" : "are"
    } taken or cooling down; wait longer with acquireTimeout, or configure a larger size for every client`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), isRetryable: this.isRetryable, message: this.message }
  }
}

/**
 * Options of slots.
 *
 * @since 0.1.0
 */
export interface Options {
  /** How many slots there are: their indices are 0 to `size - 1`. At most 100,000. */
  readonly size: number
  /**
   * How long an index stays unused after its holder may still have used it: after its release, and after the time at
   * which a crashed or cut off holder must have stopped. In whole seconds, rounded up. Default: none.
   */
  readonly coolDown?: Duration.Input | undefined
  /**
   * Time to live of the lease that holds the slot: how long it stays taken after its holder crashes, before the
   * cool-down. Default: 10 seconds.
   */
  readonly ttl?: Duration.Input | undefined
  /** How long to wait for a slot if all are taken. Default: fails with `SlotsTaken` at once. */
  readonly acquireTimeout?: Duration.Input | undefined
  /** A text about the holder that other clients can read. Not for secrets. Default: empty. */
  readonly description?: string | undefined
}

/**
 * A slot that is held.
 *
 * @since 0.1.0
 */
export interface Slot {
  /** The name of the slots. */
  readonly name: string
  /** The index that no other client has: 0 to `size - 1`. */
  readonly index: number
  /** The key in the store that holds the slot: `NAME/slots/INDEX`. */
  readonly key: string
  /** The fencing token: the key's create revision. Each holder's is larger than those of all holders before it. */
  readonly token: bigint
  /** Whether it is held, as far as this client knows now. Only a fenced write is sure. */
  readonly isHeld: Effect.Effect<boolean>
  /** `isHeld` as a plain function: call it before each use of the index, such as for each id. */
  readonly isHeldUnsafe: () => boolean
  /** Waits until the slot is lost or released, then fails. */
  readonly lost: Effect.Effect<never, LockLost>
}
