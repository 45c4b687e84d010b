/**
 * The candidates of an election, read once or followed.
 */
import * as Array from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { NodeInspectSymbol } from "effect/Inspectable"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Kv } from "../../service/KvService.ts"
import type { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import type * as KvError from "../../values/KvError.ts"
import type * as Watch from "../../values/Watch.ts"
import * as internals from "../kv/internals.ts"
import * as lockQueue from "../lock/lockQueue.ts"
import * as contenders from "../queue/contenders.ts"
import * as rangeView from "../view/rangeView.ts"
import * as watchEnd from "../watch/watchEnd.ts"
import * as watcherTake from "../watch/watcherTake.ts"
import type { Candidate } from "./model.ts"

export const of = (entry: Entry): Candidate => new CandidateOf(entry)

/** A class because of `toJSON` and `inspect`: JSON has no bigints. */
class CandidateOf implements Candidate {
  readonly key: string
  readonly token: bigint
  readonly lease: Option.Option<bigint>
  readonly value: string
  readonly revision: bigint

  constructor(entry: Entry) {
    this.key = entry.key
    this.token = entry.createRevision
    this.lease = entry.lease
    this.value = entry.lossyText
    this.revision = entry.modRevision
  }

  toJSON(): unknown {
    return {
      key: this.key,
      token: `${this.token}`,
      lease: Option.getOrUndefined(this.lease)?.toString(16),
      value: this.value,
      revision: `${this.revision}`
    }
  }

  [NodeInspectSymbol](): unknown {
    return this.toJSON()
  }
}

/**
 * The leader now, then after each revision that changed the leader or its value.
 *
 * All candidates are kept in memory. Otherwise the next leader would have to be read after the event, and a change between
 * the event and the read would be missed.
 */
export const leaders = (kv: Kv, name: string): Stream.Stream<Option.Option<Candidate>, KvError.KvError> =>
  Stream.unwrap(Effect.gen(function*() {
    const { backend, sessions } = internals.of(kv)
    const range = KeyRange.prefix(lockQueue.prefixOf(name))
    const scope = yield* Effect.scope
    const onClock = <A>(effect: Effect.Effect<A, KvError.KvError>) =>
      sessions.onClock(Effect.tapError(effect, (error) => watchEnd.warn(range, error)))
    let loaded = yield* onClock(rangeView.reload(backend, range, scope))
    let leader = oldest(name, loaded.view)
    /** Whether the candidates were read again, and the leader may be another than that. */
    let mustLook = false
    const first = published(leader)

    // A reader that is interrupted in here finds the old candidates, whose watch fails again, or the new ones.
    const readAgain = Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(restore(rangeView.reload(backend, range, scope)), (next) => {
        const before = loaded
        loaded = next
        mustLook = true
        return Effect.as(Scope.close(before.scope, Exit.void), noRevisions)
      })
    )
    /** New revisions; none after the candidates were read again because of a compaction. */
    const take = Effect.catch(
      Effect.suspend((): Effect.Effect<ReadonlyArray<Watch.Revision>, KvError.KvError> =>
        mustLook ? Effect.succeed(noRevisions) : loaded.watcher.take
      ),
      (error) => rangeView.mustReload(error) ? readAgain : Effect.fail(error)
    )
    const become = (next: Entry | undefined): ReadonlyArray<Option.Option<Candidate>> => {
      if (next?.modRevision === leader?.modRevision && next?.key === leader?.key) return []
      leader = next
      return [published(next)]
    }
    const changes = watcherTake.filterMap(take, (taken) => {
      const { view } = loaded
      const seen = mustLook
        ? become(oldest(name, view))
        : taken.flatMap((revision) =>
          rangeView.apply(view, [revision]) && concerns(revision, leader) ? become(oldest(name, view)) : []
        )
      mustLook = false
      return Array.isReadonlyArrayNonEmpty(seen) ? seen : undefined
    })
    return Stream.concat(Stream.succeed(first), Stream.fromPull(Effect.succeed(onClock(changes))))
  }))

const noRevisions: ReadonlyArray<Watch.Revision> = []

const published = (entry: Entry | undefined): Option.Option<Candidate> => Option.map(Option.fromUndefinedOr(entry), of)

/** Whether the revision may have changed the leader. A candidate that enters or leaves behind a leader does not. */
const concerns = ({ events }: Watch.Revision, leader: Entry | undefined): boolean =>
  leader === undefined || events.some(({ key }) => key === leader.key)

const oldest = (name: string, { entries }: rangeView.MutableView): Entry | undefined => {
  const prefix = lockQueue.prefixOf(name)
  let found: Entry | undefined
  for (const entry of entries.values()) {
    if (contenders.isContender(prefix, entry) && (found === undefined || contenders.isBefore(entry, found))) {
      found = entry
    }
  }
  return found
}
