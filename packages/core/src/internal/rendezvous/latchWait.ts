/**
 * The wait for a latch: one watch of its keys, of which every revision is looked at. A latch that opens and is reset at
 * once is open at one revision, and a view, which may skip to the newest, would miss it.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { KvBackend } from "../../backend/KvBackend.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import type * as KvError from "../../values/KvError.ts"
import type * as Watch from "../../values/Watch.ts"
import * as rangeView from "../view/rangeView.ts"
import * as rounds from "./rounds.ts"

/** What a waiter knows of the latch. */
interface Seen {
  readonly view: rangeView.MutableView
  /** The round of the record in the view, and its participants. */
  current: rounds.Rounds
  arrived: Set<string>
}

/** Waits until so many have arrived in a round, or the latch was opened by hand, at any revision from now on. */
export const untilOpen = Effect.fnUntraced(function*(
  backend: KvBackend,
  base: rounds.Base,
  count: number
): Effect.fn.Return<void, KvError.KvError, Scope.Scope> {
  const range = KeyRange.prefix(`${base}/`)
  const scope = yield* Effect.scope
  let loaded = yield* rangeView.reload(backend, range, scope)
  let seen = yield* look(base, loaded.view)
  const first = seen.current.round

  const isOpen = ({ arrived, current: { open, opened } }: Seen): boolean =>
    open === true || arrived.size >= count || opened !== undefined && opened >= first

  while (!isOpen(seen)) {
    const taken = yield* Effect.catch(
      loaded.watcher.take,
      (error) => rangeView.mustReload(error) ? Effect.succeed(undefined) : Effect.fail(error)
    )
    if (taken === undefined) {
      yield* Scope.close(loaded.scope, Exit.void)
      loaded = yield* rangeView.reload(backend, range, scope)
      seen = yield* look(base, loaded.view)
      continue
    }
    for (const revision of taken) {
      if (!rangeView.apply(loaded.view, [revision])) continue
      seen = yield* after(base, seen, revision)
      if (isOpen(seen)) return
    }
  }
})

const look = (base: rounds.Base, view: rangeView.MutableView): Effect.Effect<Seen, KvError.KvError> =>
  Effect.map(rounds.of(view.entries.get(rounds.recordOf(base))), (current) => ({
    view,
    current,
    arrived: new Set([...view.entries.keys()].filter((key) => isArrival(base, current, key)))
  }))

/** What is known after a revision that the view contains. */
const after = (
  base: rounds.Base,
  seen: Seen,
  { events }: Watch.Revision
): Effect.Effect<Seen, KvError.KvError> => {
  if (events.some(({ key }) => key === rounds.recordOf(base))) return look(base, seen.view)
  for (const { _tag, key } of events) {
    if (!isArrival(base, seen.current, key)) continue
    if (_tag === "Put") seen.arrived.add(key)
    else seen.arrived.delete(key)
  }
  return Effect.succeed(seen)
}

const isArrival = (base: rounds.Base, { round }: rounds.Rounds, key: string): boolean =>
  rounds.participantOf(base, round, key) !== undefined
