/**
 * The conversion of the store's log into the events that a watch delivers.
 */
import type * as Entry from "@effect-kv/core/Entry"
import * as Watch from "@effect-kv/core/Watch"
import { isArrayNonEmpty } from "effect/Array"
import * as Option from "effect/Option"
import type { Deque } from "./deque.ts"
import { contains, type Interval } from "./interval.ts"
import { isPresent, toEntry, type Version } from "./version.ts"

/** A `take` ends after the revision in which it reaches this number of events. */
const maxEventsPerTake = 1024

/** Whether the watch requests writes of this kind. */
export const matchesKind = (request: Watch.WatchRequest, version: Version): boolean =>
  request.only === undefined || (request.only === "Put") === isPresent(version)

/** The revisions from a position in the log on, and the position after the last write that was read. */
export const readEvents = (
  log: Deque<Version>,
  from: number,
  interval: Interval,
  request: Watch.WatchRequest
): { readonly revisions: Array<Watch.Revision>; readonly position: number } => {
  const revisions: Array<Watch.Revision> = []
  let position = from
  for (let count = 0; count < maxEventsPerTake && position < log.end;) {
    const events: Array<Watch.Event> = []
    const { modRevision, revision } = log.at(position)
    for (; position < log.end && log.at(position).revision === revision; position++) {
      const version = log.at(position)
      if (matchesKind(request, version) && contains(interval, version.key)) events.push(toEvent(request, version))
    }
    if (isArrayNonEmpty(events)) revisions.push(Watch.revision(modRevision, events))
    count += events.length
  }
  return { revisions, position }
}

const toEvent = (request: Watch.WatchRequest, version: Version): Watch.Event => {
  const previous = request.previous === true ? previousEntry(version) : Option.none<Entry.Entry>()
  return isPresent(version)
    ? Watch.putEvent({
      key: version.key,
      revision: version.modRevision,
      entry: toEntry(version),
      isCreate: version.version === 1,
      previous
    })
    : Watch.deleteEvent({ key: version.key, revision: version.modRevision, previous })
}

/** As in etcd, the entry before the whole revision, which may have written the key more than once. */
const previousEntry = (version: Version): Option.Option<Entry.Entry> => {
  let before = version.previous
  while (before !== undefined && before.revision === version.revision) before = before.previous
  return before !== undefined && isPresent(before) ? Option.some(toEntry(before)) : Option.none()
}
