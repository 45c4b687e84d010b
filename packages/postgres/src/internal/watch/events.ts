/**
 * The revisions that a watch delivers, from the items that the store returned.
 */
import type * as Entry from "@effect-kv/core/Entry"
import * as Watch from "@effect-kv/core/Watch"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Option from "effect/Option"
import { keyOf } from "../bytes.ts"
import { entryOf, type Item, kind } from "../items.ts"

/** An event with the key as bytes, by which it is matched with ranges. */
export interface Change {
  readonly key: Uint8Array
  readonly revision: bigint
  readonly event: Watch.Event
  readonly bytes: number
}

/** The events in the items, in the order in which they happened. */
export const changesOf = (items: ReadonlyArray<Item>): ReadonlyArray<Change> => {
  const changes: Array<Change> = []
  let previous = Option.none<Entry.Entry>()
  for (const item of items) {
    switch (item[0]) {
      case kind.previous:
        previous = Option.some(entryOf(item))
        break
      case kind.put:
      case kind.delete:
        changes.push(changeOf(item, previous))
        previous = Option.none()
        break
    }
  }
  return changes
}

const changeOf = (item: Item, previous: Option.Option<Entry.Entry>): Change => {
  const key = item[3]!
  const revision = item[6]!
  const isPut = item[0] === kind.put
  return {
    key,
    revision,
    bytes: key.length + item[4]!.length,
    event: isPut
      ? Watch.putEvent({
        key: keyOf(key),
        revision,
        entry: entryOf(item),
        isCreate: item[7] === 1n,
        previous
      })
      : Watch.deleteEvent({ key: keyOf(key), revision, previous })
  }
}

/** Groups events by revision. */
export const revisionsOf = (changes: NonEmptyReadonlyArray<Change>): NonEmptyReadonlyArray<Watch.Revision> => {
  const groups: Array<[Watch.Event, ...Array<Watch.Event>]> = []
  for (const { event, revision } of changes) {
    const last = groups[groups.length - 1]
    if (last !== undefined && last[0].revision === revision) last.push(event)
    else groups.push([event])
  }
  const [first, ...others] = groups.map((events) => Watch.revision(events[0].revision, events))
  return [first!, ...others]
}
