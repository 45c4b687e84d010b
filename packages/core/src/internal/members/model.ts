/**
 * Members as values: the types that the `Members` module and its implementation share.
 */
import type * as DateTime from "effect/DateTime"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type * as KvError from "../../values/KvError.ts"
import type { Status } from "../tempKey/model.ts"
import type { TempKeyLost, TempKeyTaken } from "../tempKey/tempKeyErrors.ts"
import * as json from "../values/json.ts"

/**
 * The value of a member does not have the form of the schema. It concerns this member alone.
 *
 * It never contains the value: values may be secrets.
 *
 * @since 0.1.0
 */
export class MemberUndecodable extends Schema.Error<MemberUndecodable>("@effect-kv/core/Members/MemberUndecodable")({
  _tag: Schema.tag("MemberUndecodable"),
  /** The member's key in the store. */
  key: Schema.String,
  /** The revision of the write of that value. */
  revision: Schema.BigInt
}) {
  override get message(): string {
    return `the value of ${JSON.stringify(this.key)} at revision ${this.revision} does not have the form of the schema`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), message: this.message }
  }
}

/**
 * A member of this process. It is in the store as long as its scope, except while its lease is lost.
 *
 * @since 0.1.0
 */
export interface Member<in A> {
  /** The group's name. */
  readonly name: string
  /** The member's id. */
  readonly id: string
  /** The member's key: `NAME/ID`. */
  readonly key: string
  /**
   * Sets the value that the member has from now on. Returns the revision at which the store had it, or a newer one.
   *
   * **Details**
   *
   * If the store cannot be reached, it waits. A member that is made again in the meantime has the new value at once. If
   * the wait is interrupted, the value is written nevertheless. Of concurrent updates the last one wins.
   *
   * Fails if the store rejects the value, or once the member is gone permanently; then the value before is kept. Under
   * a lock the write is fenced like any other, and a member that is made again has the new value only after that write.
   */
  readonly update: (value: A) => Effect.Effect<bigint, KvError.KvError | TempKeyLost | TempKeyTaken>
  /** The lease that the member's key is attached to; `none` while it is not in the store. */
  readonly lease: Effect.Effect<Option.Option<bigint>>
  /** The revision of the last write to it that this client knows of; `none` while it is not in the store. */
  readonly revision: Effect.Effect<Option.Option<bigint>>
  /**
   * Whether the member is in the store: now, then each change. `Held` again after `Lost`: it is back, on another lease.
   * Ends when it is gone permanently.
   */
  readonly status: Stream.Stream<Status>
  /**
   * Waits until the member is gone permanently, then fails: its scope or the client was closed, another client has the
   * id and `onTaken` is `"fail"`, or the store rejects its value.
   */
  readonly lost: Effect.Effect<never, TempKeyLost | TempKeyTaken>
}

/**
 * The members of a group at one revision, by their ids, which are in the order of their bytes.
 *
 * @since 0.1.0
 */
export interface Snapshot<out A> {
  /** The revision of the store. */
  readonly revision: bigint
  /** The value of each member, or the failure to decode it. */
  readonly members: ReadonlyMap<string, Result.Result<A, MemberUndecodable>>
  /**
   * Since when this snapshot may be out of date, because this client is cut off from the store; `none` while it is
   * current.
   */
  readonly staleSince: Option.Option<DateTime.Utc>
}

/**
 * A view of a group's members. It fails once it is no longer kept current: with `Closed` after its scope or the client
 * was closed, with `PermissionDenied` if the permission was revoked.
 *
 * @since 0.1.0
 */
export interface View<out A> {
  /** The members now. */
  readonly snapshot: Effect.Effect<Snapshot<A>, KvError.KvError>
  /** The members now, then after each change of them or of the snapshot's staleness. A slow reader skips to the newest. */
  readonly changes: Stream.Stream<Snapshot<A>, KvError.KvError>
}
