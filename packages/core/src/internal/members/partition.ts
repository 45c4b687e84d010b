/**
 * The shards of a member: its own part of a partition over the members in the store.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Kv } from "../../service/KvService.ts"
import type * as KvError from "../../values/KvError.ts"
import * as internals from "../kv/internals.ts"
import * as rangeView from "../view/rangeView.ts"
import * as memberKey from "./memberKey.ts"
import type { Member } from "./model.ts"
import * as rendezvous from "./rendezvous.ts"
import { orderOf } from "./view.ts"

/** The shards of the member now, then whenever they change. Ends when the member is gone permanently. */
export const ofMember = <A, S extends string>(
  kv: Kv,
  member: Member<A>,
  shards: ReadonlyArray<S>
): Stream.Stream<ReadonlyArray<S>, KvError.KvError> =>
  Stream.unwrap(Effect.gen(function*() {
    const { backend, sessions } = internals.of(kv)
    const range = yield* memberKey.rangeOf(member.name)
    const view = yield* sessions.onClock(rangeView.openPatiently(backend, range))
    const ownerOf = ownersOf(member.name)
    const none: ReadonlyArray<S> = []

    const owned = (lease: bigint, { snapshot: { entries } }: rangeView.State): ReadonlyArray<S> => {
      // A key on another lease belongs to another process, or is of before the loss of the lease.
      if (!Option.contains(entries.get(member.key)?.lease ?? Option.none(), lease)) return none
      const owner = ownerOf(entries)
      return shards.filter((shard) => owner(shard) === member.id)
    }
    return member.status.pipe(
      Stream.switchMap((status) =>
        status._tag === "Held"
          ? Stream.map(view.states, (state) => owned(status.lease, state))
          : Stream.succeed(none)
      ),
      Stream.changesWith((a, b) => a.length === b.length && a.every((shard, i) => shard === b[i]))
    )
  }))

/** Hashes the ids again only if they have changed. */
const ownersOf = (name: string) => {
  const order = orderOf(name)
  let ids: ReturnType<typeof order> = []
  let owner = rendezvous.ownerAmong([])
  return (entries: Parameters<typeof order>[0]): (shard: string) => string | undefined => {
    const now = order(entries)
    if (now !== ids) owner = rendezvous.ownerAmong(now.map(([id]) => id))
    ids = now
    return owner
  }
}
