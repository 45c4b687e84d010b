/**
 * The two keys of a job, followed by watches: the record of its last run, and the key of the run in progress.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Kv } from "../../service/KvService.ts"
import type { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import * as KvError from "../../values/KvError.ts"
import { inChildScope } from "../childScope.ts"
import * as internals from "../kv/internals.ts"
import type { RangeView } from "../view/model.ts"
import * as rangeView from "../view/rangeView.ts"
import * as model from "./model.ts"

export interface Place {
  readonly kv: Kv
  readonly name: string
  readonly record: RangeView
  readonly run: RangeView
}

export const open = (kv: Kv, name: string): Effect.Effect<Place, KvError.KvError, Scope.Scope> =>
  inChildScope(
    Effect.fnUntraced(function*(scope) {
      const view = (key: string) => Scope.provide(rangeView.open(internals.of(kv).unfenced, KeyRange.key(key)), scope)
      return { kv, name, record: yield* view(model.recordKeyOf(name)), run: yield* view(model.runKeyOf(name)) }
    }),
    Exit.isSuccess
  )

/** What the watches have delivered so far. */
export interface Seen {
  readonly record: model.Record | undefined
  /** The revision of the record; 0 if there is none. */
  readonly revision: bigint
  readonly isRunning: boolean
  /** Waits until the watches have delivered more than this. */
  readonly changed: Effect.Effect<void, KvError.KvError>
}

/** Fails if the job's key holds something else than a record. */
export const seen = Effect.fnUntraced(function*(place: Place): Effect.fn.Return<Seen, KvError.KvError> {
  const { name } = place
  const record = yield* place.record.snapshot
  const run = yield* place.run.snapshot
  const entry = record.entries.get(model.recordKeyOf(name))
  const decoded = entry === undefined ? undefined : yield* recordOf(entry)
  return {
    record: decoded,
    revision: entry?.modRevision ?? 0n,
    // One transaction puts both keys, but two watches deliver them. Until the second has, the run is in progress.
    isRunning: run.entries.size > 0 || decoded?.state === "Running" && run.revision < entry!.modRevision,
    changed: Effect.raceFirst(
      Stream.runHead(place.record.changesAfter(record.revision)),
      Stream.runHead(place.run.changesAfter(run.revision))
    )
  }
})

/** The record of an entry. Fails if something else wrote it. */
export const recordOf = (entry: Entry): Effect.Effect<model.Record, KvError.KvError> =>
  Option.match(model.decode(entry), {
    onNone: () =>
      KvError.fail(
        new KvError.InvalidRequest({
          message: `the key ${
            JSON.stringify(entry.key)
          } holds something else than the record of a run: use another name, or delete the key`
        })
      ),
    onSome: Effect.succeed
  })

/** Waits until the watches have delivered more than this, at most for a second: a rejected start proves a change. */
export const untilChanged = ({ kv }: Place, { changed }: Seen): Effect.Effect<void, KvError.KvError> =>
  Effect.raceFirst(changed, internals.of(kv).sessions.onClock(Effect.sleep("1 second")))

/**
 * Waits for a moment of random length before a start; true if the watches have delivered more than this meanwhile.
 *
 * All instances see the same tick come due, and the same runner crash. The first of them starts, and the others notice
 * before they send anything. Also, the two keys have a watch each: the end of a run may look like a crash for a moment.
 */
export const changesSoon = Effect.fnUntraced(function*(
  { kv }: Place,
  { changed, record }: Seen
): Effect.fn.Return<boolean, KvError.KvError> {
  const mayHaveEnded = record?.state === "Running"
  const millis = (mayHaveEnded ? 100 : 0) + Math.ceil((yield* Random.next) * 50)
  return yield* Effect.raceFirst(
    Effect.as(changed, true),
    Effect.as(internals.of(kv).sessions.onClock(Effect.sleep(millis)), false)
  )
})
