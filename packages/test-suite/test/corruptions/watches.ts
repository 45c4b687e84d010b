/**
 * Corruptions of watches, which `WatchChecker` must find.
 */
import type { History, WatchChecker } from "@effect-kv/test-suite/verification"
import type { Run } from "../goodHistories.ts"
import type { Corrupt, Pick } from "./pick.ts"

export interface Corruption {
  readonly title: string
  readonly corrupt: Corrupt
  readonly found: ReadonlyArray<WatchChecker.Kind>
}

type Batches = ReadonlyArray<History.Batch>

/** Changes the batches of one of the watches of all keys. */
const ofBatches = (change: (batches: Batches, pick: Pick) => Batches | undefined): Corrupt => (run, pick) => {
  const watch = run.history.watches.find((watch) => watch.client === "watcher 0")!
  const batches = change(watch.batches, pick)
  return batches && withWatch(run, { ...watch, batches })
}

const withWatch = (run: Run, watch: History.WatchCall): Run => ({
  ...run,
  history: {
    ...run.history,
    watches: run.history.watches.map((each) => each.id === watch.id ? watch : each)
  }
})

/** Changes an event, chosen among those to which the change applies. */
const ofEvent = (change: (event: History.Event) => History.Event | undefined): Corrupt =>
  ofBatches((batches, pick) => {
    const found = pick.one(batches.flatMap((batch, i) =>
      batch.events.flatMap((event, j) => {
        const changed = change(event)
        return changed === undefined ? [] : [{ i, j, changed }]
      })
    ))
    if (found === undefined) return undefined
    const batch = batches[found.i]!
    return batches.with(found.i, { ...batch, events: batch.events.with(found.j, found.changed) })
  })

/** The index of a batch with several events. */
const several = (batches: Batches, pick: Pick): number | undefined =>
  pick.one(batches.flatMap((batch, i) => batch.events.length > 1 ? [i] : []))

export const corruptions: ReadonlyArray<Corruption> = [
  {
    title: "a revision is not delivered",
    found: ["Missing"],
    corrupt: ofBatches((batches, pick) => batches.toSpliced(pick.index(batches.length - 1), 1))
  },
  {
    title: "the last revisions are not delivered",
    found: ["Incomplete"],
    corrupt: ofBatches((batches, pick) => batches.slice(0, -1 - pick.index(3)))
  },
  {
    title: "a revision is delivered twice",
    found: ["Duplicate"],
    corrupt: ofBatches((batches, pick) => {
      const at = pick.index(batches.length)
      return batches.toSpliced(at + pick.index(batches.length - at) + 1, 0, batches[at]!)
    })
  },
  {
    title: "two revisions are swapped",
    found: ["Reordered"],
    corrupt: ofBatches((batches, pick) => {
      const at = pick.index(batches.length - 1)
      return batches.with(at, batches[at + 1]!).with(at + 1, batches[at]!)
    })
  },
  {
    title: "a revision is delivered in two parts",
    found: ["SplitRevision"],
    corrupt: ofBatches((batches, pick) => {
      const at = several(batches, pick)
      if (at === undefined) return undefined
      const { events, ...batch } = batches[at]!
      return batches.toSpliced(at, 1, { ...batch, events: events.slice(0, 1) }, { ...batch, events: events.slice(1) })
    })
  },
  {
    title: "a revision is delivered without one of its events",
    found: ["SplitRevision"],
    corrupt: ofBatches((batches, pick) => {
      const at = several(batches, pick)
      if (at === undefined) return undefined
      const batch = batches[at]!
      return batches.with(at, { ...batch, events: batch.events.toSpliced(pick.index(batch.events.length), 1) })
    })
  },
  {
    title: "the events of a revision are in another order",
    found: ["Reordered"],
    corrupt: ofBatches((batches, pick) => {
      const at = several(batches, pick)
      return at === undefined
        ? undefined
        : batches.with(at, { ...batches[at]!, events: batches[at]!.events.toReversed() })
    })
  },
  {
    title: "two revisions are delivered as one",
    found: ["Missing"],
    corrupt: ofBatches((batches, pick) => {
      const at = pick.index(batches.length - 1)
      const [first, second] = [batches[at]!, batches[at + 1]!]
      return batches.toSpliced(at, 2, { ...second, events: [...first.events, ...second.events] })
    })
  },
  {
    title: "an event is delivered that did not happen",
    found: ["Phantom"],
    corrupt: ofBatches((batches, pick) => {
      const at = pick.index(batches.length)
      const batch = batches[at]!
      const phantom: History.Event = { _tag: "Delete", key: "w/nobody", revision: batch.revision }
      return batches.with(at, { ...batch, events: [...batch.events, phantom] })
    })
  },
  {
    title: "a put is delivered as a delete",
    found: ["Phantom"],
    corrupt: ofEvent(({ _tag, key, revision }) => _tag === "Put" ? { _tag: "Delete", key, revision } : undefined)
  },
  {
    title: "an event has another value",
    found: ["WrongEntry"],
    corrupt: ofEvent((event) =>
      event._tag === "Put" ? { ...event, entry: { ...event.entry, value: "another" } } : undefined
    )
  },
  {
    title: "an event has another version",
    found: ["WrongEntry"],
    corrupt: ofEvent((event) =>
      event._tag === "Put" ? { ...event, entry: { ...event.entry, version: event.entry.version + 1 } } : undefined
    )
  },
  {
    title: "an event has the wrong isCreate",
    found: ["WrongIsCreate"],
    corrupt: ofEvent((event) => event._tag === "Put" ? { ...event, isCreate: !event.isCreate } : undefined)
  },
  {
    title: "an event has no previous entry",
    found: ["WrongPrevious"],
    corrupt: ofEvent(({ previous, ...event }) => previous === undefined ? undefined : event)
  },
  {
    title: "an event has an older entry as the previous one",
    found: ["WrongPrevious"],
    corrupt: ofEvent((event) =>
      event.previous === undefined || event.previous.version === 1
        ? undefined
        : { ...event, previous: { ...event.previous, version: event.previous.version - 1 } }
    )
  },
  {
    title: "an event from before the watch is delivered",
    found: ["Phantom"],
    corrupt: (run, pick) => {
      const watch = run.history.watches.find((watch) => watch.client === "watcher 0")!
      const revision = pick.one(watch.batches.slice(0, -1))!.revision
      return withWatch(run, { ...watch, confirmed: { at: watch.confirmed!.at, revision } })
    }
  }
]
