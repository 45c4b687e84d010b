/**
 * A live view of a group's members: a view of their range, decoded.
 */
import type * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Kv } from "../../service/KvService.ts"
import type { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import type * as KvError from "../../values/KvError.ts"
import * as internals from "../kv/internals.ts"
import * as json from "../values/json.ts"
import * as rangeView from "../view/rangeView.ts"
import * as memberCodec from "./memberCodec.ts"
import * as memberKey from "./memberKey.ts"
import type { MemberUndecodable, Snapshot, View } from "./model.ts"

/** Opens a view. Waits while the store cannot be reached. */
export const open = Effect.fnUntraced(function*<A>(
  kv: Kv,
  name: string,
  schema: Schema.Codec<A, unknown>
): Effect.fn.Return<View<A>, KvError.KvError, Scope.Scope> {
  const range = yield* memberKey.rangeOf(name)
  const { backend, sessions } = internals.of(kv)
  const view = yield* sessions.onClock(rangeView.openPatiently(backend, range))
  const decode = memberCodec.decoder(schema)
  const order = orderOf(name)
  const snapshotOf = ({ snapshot: { entries, revision }, staleSince }: rangeView.State): Snapshot<A> =>
    new SnapshotOf(
      revision,
      new Map(order(entries).map(([id, key]) => [id, decode(entries.get(key)!)])),
      staleSince
    )
  return {
    snapshot: Effect.map(view.state, snapshotOf),
    changes: Stream.map(view.states, snapshotOf)
  }
})

/**
 * The ids of the members and their keys, in the order of their bytes. Sorted again only if the keys have changed: most
 * changes are of values.
 */
export const orderOf = (
  name: string
): (entries: ReadonlyMap<string, Entry>) => ReadonlyArray<readonly [id: string, key: string]> => {
  let keys: ReadonlyArray<string> = []
  let order: ReadonlyArray<readonly [string, string]> = []
  return (entries) => {
    if (!hasKeys(entries, keys)) {
      keys = [...entries.keys()]
      order = keys
        .flatMap((key) => {
          const id = memberKey.idOf(name, key)
          return id === undefined ? [] : [[id, key] as const]
        })
        .sort(([, a], [, b]) => KeyRange.compareKeys(a, b))
    }
    return order
  }
}

const hasKeys = (entries: ReadonlyMap<string, Entry>, keys: ReadonlyArray<string>): boolean => {
  if (entries.size !== keys.length) return false
  let i = 0
  for (const key of entries.keys()) if (key !== keys[i++]) return false
  return true
}

/** A class because of `toJSON`: JSON has neither bigints nor maps, and values may be secrets. */
class SnapshotOf<A> implements Snapshot<A> {
  readonly revision: bigint
  readonly members: ReadonlyMap<string, Result.Result<A, MemberUndecodable>>
  readonly staleSince: Option.Option<DateTime.Utc>

  constructor(
    revision: bigint,
    members: ReadonlyMap<string, Result.Result<A, MemberUndecodable>>,
    staleSince: Option.Option<DateTime.Utc>
  ) {
    this.revision = revision
    this.members = members
    this.staleSince = staleSince
  }

  toJSON(): unknown {
    const members = [...this.members].map(([id, value]) => ({ id, isDecoded: Result.isSuccess(value) }))
    return { ...json.fieldsOf(this), members }
  }
}
